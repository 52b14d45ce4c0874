"""Another revision comes into force while streams are open: nothing older is released, nothing is lost or comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.core.decide import Question
from broker.core.deliver.fanout import Warm
from broker.core.deliver.session import Session
from broker.errors import EntenteError, Reason
from broker.model.decision import KEEP, Decision, Effect
from protos.entente.v1.exchange_pb2 import SubscribeResponse
from tests.fakes.chains import read_chains
from tests.fakes.delivery import RELEASE, TYPE, WITHHOLD, ScriptedDecider, owner_of, registry
from tests.fakes.regimes import AnyIdentity
from tests.fakes.streams import StreamWorld

FIRST, SECOND = "sha256:0", "sha256:1"


@pytest.fixture
async def world() -> AsyncIterator[StreamWorld]:
    made = StreamWorld()
    yield made
    await made.close()


def deciding(answer: Any) -> ScriptedDecider:
    """By a function of the question about a delivery; everybody may subscribe."""
    decider = ScriptedDecider()
    decider.answer = lambda question: answer(question) if question.item["action"] == "deliver" else RELEASE
    return decider


def only(owner: str) -> ScriptedDecider:
    return deciding(lambda question: RELEASE if owner_of(question) == owner else WITHHOLD)


def rules_of(world: StreamWorld, kind: str = "delivery") -> list[str]:
    """The revisions of the entries of one kind, in order."""
    return [cast(Any, entry.body["rules"])["revision"] for entry in world.ledger.of(kind)]


async def messages(session: Session) -> list[str]:
    """What waits to be written, by name; nothing more comes by itself."""
    found = []
    while session._outbox or session._answer:
        outgoing = await session.next()
        assert outgoing is not None
        found.append(str(SubscribeResponse.FromString(outgoing.message).WhichOneof("message")))
        session.written(outgoing)
    return found


async def judged(world: StreamWorld) -> None:
    assert world.judged is not None
    await asyncio.wait_for(world.judged, 10)


async def test_what_follows_is_decided_by_the_later_revision(world: StreamWorld) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1")
    assert await world.receive(session, 1) == ["1"]
    await world.warm_switch(only("beta"))
    await world.store("alpha", "2")
    await world.store("beta", "3")
    assert await _first_message(session) == "policy_change"
    assert await world.receive(session, 1) == ["3"]
    assert rules_of(world) == [FIRST, SECOND]


async def test_a_release_under_way_ends_before_the_switch_does(world: StreamWorld) -> None:
    session = await world.open(records=10)
    world.ledger.hold = asyncio.Event()
    world.ledger.asked.clear()
    await world.store("alpha", "1")
    await asyncio.wait_for(world.ledger.asked.wait(), 10)
    over = world.switch(only("beta"))
    await world.store("alpha", "2")
    await world.idle()
    assert not over.done()
    world.ledger.hold.set()
    await asyncio.wait_for(over, 10)
    assert await world.receive(session, 1) == ["1"]
    assert await _first_message(session) == "policy_change"
    await world.store("beta", "3")
    assert await world.receive(session, 1) == ["3"]
    assert rules_of(world) == [FIRST, SECOND]


async def test_what_was_prepared_but_not_yet_entered_is_decided_again(world: StreamWorld) -> None:
    """The switch comes between the decision and the entry."""
    earlier = world.decider
    session = await world.open(records=10)
    earlier.hold = asyncio.Event()
    await world.store("alpha", "1")
    await world.store("beta", "2")
    await world.idle()
    await world.switch(only("beta"))
    earlier.hold.set()
    await judged(world)
    assert await world.receive(session, 1) == ["2"]
    assert rules_of(world) == [SECOND]


async def test_a_batch_prepared_ahead_is_not_released_by_the_rules_that_are_over(world: StreamWorld) -> None:
    session = await world.open(records=10)
    world.ledger.hold = asyncio.Event()
    world.ledger.asked.clear()
    await world.store("alpha", "1")
    await asyncio.wait_for(world.ledger.asked.wait(), 10)
    await world.store("alpha", "2")  # is prepared while the ledger writes
    await world.idle()
    over = world.switch(deciding(lambda _: WITHHOLD))
    world.ledger.hold.set()
    await over
    await judged(world)
    await world.idle()
    assert await world.receive(session, 1) == ["1"]
    assert await messages(session) in (["policy_change"], [])
    assert world.ledger.released() == [(0, 0)]


async def test_what_the_earlier_revision_withheld_is_told_under_its_name(world: StreamWorld) -> None:
    world.decider.answer = lambda question: WITHHOLD if question.item["action"] == "deliver" else RELEASE
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.idle()
    await world.switch()
    await world.store("alpha", "2")
    await judged(world)
    await messages(session)
    await world.idle()
    (entry,) = world.ledger.of("delivery")
    body = cast(Any, entry.body)
    assert body["rules"]["revision"] == SECOND
    assert all("under" not in decision for decision in body["decisions"])
    ((withheld, count),) = body["considered"][0]["withheld"]
    assert (withheld["under"], count) == ({"revision": FIRST, "engine": "scripted 1"}, 1)


async def test_a_stream_that_may_no_longer_subscribe_ends_after_its_entry(world: StreamWorld) -> None:
    session = await world.open("p-1", records=10)
    other = await world.open("p-2", records=10)
    denying = ScriptedDecider()
    denying.answer = lambda question: (
        WITHHOLD if cast(Any, question.item["subject"]).get("id") == "p-1" else RELEASE
    )
    await world.switch(denying)
    await judged(world)
    assert await session.next() is None
    assert session.failure is not None
    assert session.failure.reason is Reason.POLICY_DENIED
    assert session.failure.decisions
    assert other.is_open
    assert await messages(other) == []
    await world.store("alpha", "1")
    assert await world.receive(other, 1) == ["1"]
    (entry,) = world.ledger.of("delivery")
    assert [receiver["subject"] for receiver in cast(Any, entry.body["receivers"])] == ["p-2"]


async def test_a_principal_that_the_later_registration_does_not_know_ends(world: StreamWorld) -> None:
    session = await world.open("p-1", records=10)
    identity = AnyIdentity()
    identity.unknown = {"p-1"}
    await world.switch(identity=identity)
    await judged(world)
    assert session.failure is not None
    assert session.failure.reason is Reason.POLICY_DENIED


async def test_a_topic_that_is_gone_ends_its_streams_like_a_hidden_one(world: StreamWorld) -> None:
    ends = []
    for hidden in (False, True):
        session = await world.open(records=10)
        decider = ScriptedDecider()
        if hidden:
            decider.answer = lambda _: WITHHOLD
        known = registry() if hidden else replace(registry(), topics={})
        await world.switch(decider, known)
        await judged(world)
        assert session.failure is not None
        ends.append((session.failure.reason, str(session.failure), session.failure.metadata))
        await world.streams.close(session, "POLICY_DENIED")
        await world.switch()
    assert ends[0] == ends[1]


async def test_without_a_decision_of_the_later_engine_a_stream_waits_and_does_not_end(
    world: StreamWorld,
) -> None:
    session = await world.open(records=10)
    silent = ScriptedDecider()
    silent.answer = lambda _: None
    await world.switch(silent)
    await judged(world)
    await world.store("alpha", "1")
    await world.idle()
    assert session.is_open
    assert world.ledger.of("delivery") == []
    silent.answer = lambda _: RELEASE
    assert await world.receive(session, 1) == ["1"]
    assert rules_of(world) == [SECOND]


LATER: dict[str, tuple[Decision, Decision, bool]] = {
    "the same": (RELEASE, RELEASE, False),
    "other reasons": (RELEASE, replace(RELEASE, reasons=("another",)), False),
    "other obligations": (RELEASE, replace(RELEASE, obligations=("keep-quiet",)), True),
    "other treatments": (RELEASE, replace(RELEASE, treatments={}), True),
    "withheld now": (RELEASE, WITHHOLD, True),
    "withheld no longer": (WITHHOLD, RELEASE, True),
    "withheld for another reason": (WITHHOLD, Decision(Effect.WITHHOLD, reasons=("x",)), False),
    "withheld with treatments": (WITHHOLD, Decision(Effect.WITHHOLD, {"unreviewed": KEEP}), False),
    "a notice": (RELEASE, Decision(Effect.NOTICE), True),
    "a notice with treatments": (
        Decision(Effect.NOTICE),
        Decision(Effect.NOTICE, {"unreviewed": KEEP}),
        False,
    ),
}


@pytest.mark.parametrize("name", LATER)
async def test_a_stream_is_told_only_if_its_own_outcome_changed(world: StreamWorld, name: str) -> None:
    before, after, told = LATER[name]
    world.decider.answer = lambda question: before if question.item["action"] == "deliver" else RELEASE
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.idle()
    await messages(session)
    later = deciding(lambda _: after)
    await world.warm_switch(later)
    await judged(world)
    assert await messages(session) == (["policy_change"] if told else [])


async def test_a_class_whose_label_sets_are_decided_later_is_told_then(world: StreamWorld) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    later = ScriptedDecider()
    answers: list[Decision | None] = [None, None]
    later.answer = lambda question: (
        (answers.pop() if answers else WITHHOLD) if question.item["action"] == "deliver" else RELEASE
    )
    await world.switch(later)
    outgoing = await asyncio.wait_for(session.next(), 10)
    assert outgoing is not None
    assert SubscribeResponse.FromString(outgoing.message).WhichOneof("message") == "policy_change"


async def test_other_markings_of_the_same_fields_are_another_outcome(world: StreamWorld) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    known = registry()
    marked = replace(known.record_types[TYPE], fields={"$.name": ("unreviewed",)})
    await world.switch(None, replace(known, record_types={TYPE: marked}))
    assert await _first_message(session) == "policy_change"


async def test_what_was_met_under_an_earlier_revision_counts_at_the_next_switch_too(
    world: StreamWorld,
) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    told = []
    for later in (only("alpha"), only("alpha"), only("beta"), only("beta"), only("alpha")):
        await world.warm_switch(later)
        await judged(world)
        told.append(await messages(session))
    assert told == [[], [], ["policy_change"], [], ["policy_change"]]


async def test_what_is_met_between_warming_and_the_switch_counts(world: StreamWorld) -> None:
    session = await world.open(records=10)
    later = only("beta")
    regime = world.regime(later)
    warm: Warm = {}
    await world.fanout.warm(regime, warm)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    await world.put_in_force(regime, warm)
    assert await _first_message(session) == "policy_change"


async def test_another_class_is_told_nothing(world: StreamWorld) -> None:
    session = await world.open("p-1", role="reader", records=10)
    other = await world.open("p-2", role="writer", records=10)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    await world.receive(other, 1)
    later = deciding(
        lambda question: RELEASE if question.item["subject"]["roles"] == ["writer"] else WITHHOLD
    )
    await world.warm_switch(later)
    await judged(world)
    assert (await messages(session), await messages(other)) == (["policy_change"], [])


async def test_lags_go_over_to_the_later_revision(world: StreamWorld) -> None:
    world.decider.answer = lambda question: (
        None if question.item["action"] == "deliver" and owner_of(question) == "alpha" else RELEASE
    )
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.store("beta", "2")
    assert await world.receive(session, 1) == ["2"]
    await world.switch()
    await judged(world)
    assert await world.receive(session, 1) == ["1"]
    assert rules_of(world) == [FIRST, SECOND]


async def test_a_parked_stream_is_judged_too(world: StreamWorld) -> None:
    session = await world.open(records=1)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    await world.store("alpha", "2")
    await world.idle()
    await world.switch(only("beta"))
    await judged(world)
    await messages(session)
    await world.store("beta", "3")
    world.grant(session, 5)
    assert await world.receive(session, 1) == ["3"]


async def test_a_switch_during_an_opening_asks_again(world: StreamWorld) -> None:
    world.ledger.hold = asyncio.Event()
    opening = asyncio.ensure_future(world.open(records=5))
    await asyncio.wait_for(world.ledger.asked.wait(), 10)
    over = world.switch()
    await world.idle()
    assert not over.done()  # its entry is under way
    world.ledger.hold.set()
    session = await opening
    await asyncio.wait_for(over, 10)
    await world.store("alpha", "1")
    assert await world.receive(session, 1) == ["1"]
    assert rules_of(world, "stream_opened") == [FIRST]
    assert rules_of(world) == [SECOND]


async def test_a_stream_that_a_switch_denies_while_it_is_opened_is_never_open(world: StreamWorld) -> None:
    earlier = world.decider
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(questions: list[Question]) -> list[Decision | None]:
        asked.set()
        await go_on.wait()
        return [RELEASE for _ in questions]

    cast(Any, earlier).decide = slow
    opening = asyncio.ensure_future(world.open())
    await asked.wait()
    denying = ScriptedDecider()
    denying.answer = lambda _: WITHHOLD
    await world.switch(denying)
    go_on.set()
    with pytest.raises(EntenteError) as refused:
        await opening
    assert refused.value.reason is Reason.TOPIC_NOT_FOUND
    assert world.ledger.of("stream_opened") == []


async def test_a_refresh_across_a_switch_is_judged_by_the_later_revision(world: StreamWorld) -> None:
    session, held, refreshing = await _refreshed_behind_an_entry(world)
    denying = ScriptedDecider()
    denying.answer = lambda question: (
        WITHHOLD if cast(Any, question.item["subject"])["roles"] == ["writer"] else RELEASE
    )
    over = world.switch(denying)
    held.set()
    await asyncio.wait_for(over, 10)
    await refreshing
    await world.store("alpha", "2")
    await _ended(world, session)
    assert session.failure is not None
    assert session.failure.reason is Reason.POLICY_DENIED


async def test_several_switches_in_a_row_end_with_the_last_one(world: StreamWorld) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1")
    await world.receive(session, 1)
    for owner in ("beta", "gamma", "alpha", "beta"):
        world.switch(only(owner))
    await judged(world)
    await world.store("alpha", "2")
    await world.store("beta", "3")
    # Nothing was decided beforehand, so which of both comes first is not said.
    assert {await _first_message(session), await _first_message(session)} == {"batch", "policy_change"}
    assert world.ledger.released() == [(0, 0), (0, 2)]


async def test_warming_decides_and_changes_nothing(world: StreamWorld) -> None:
    session = await world.open(records=10)
    await world.store("alpha", "1", label="green")
    await world.store("alpha", "2", label="red")
    await world.receive(session, 2)
    later = ScriptedDecider()
    regime = world.regime(later)
    await world.fanout.warm(regime, {})
    asked = [cast(Any, key) for key in later.decided]
    assert len(asked) == 3  # the stream's subscription, and two label sets
    assert world.in_force.present.regime is not regime
    assert await messages(session) == []


async def _refreshed_behind_an_entry(
    world: StreamWorld,
) -> tuple[Session, asyncio.Event, asyncio.Future[Any]]:
    """A stream that becomes a writer's while the entry of its first record is being written, until the event is set."""
    session = await world.open(records=10)
    world.ledger.hold = held = asyncio.Event()
    world.ledger.asked.clear()
    await world.store("alpha", "1")
    await asyncio.wait_for(world.ledger.asked.wait(), 10)
    refreshing = asyncio.ensure_future(world.streams.refresh(session, world.principal("p-1", role="writer")))
    await world.idle()
    return session, held, refreshing


async def _first_message(session: Session) -> str:
    outgoing = await asyncio.wait_for(session.next(), 10)
    assert outgoing is not None
    session.written(outgoing)
    return str(SubscribeResponse.FromString(outgoing.message).WhichOneof("message"))


async def _ended(world: StreamWorld, session: Session) -> None:
    async with asyncio.timeout(10):
        while await session.next() is not None:
            pass


async def test_a_stream_whose_class_is_being_changed_is_placed_by_nobody_else(world: StreamWorld) -> None:
    """It is taken back to where it stands, by an entry that takes its time, while a switch judges it."""
    session, held, refreshing = await _refreshed_behind_an_entry(world)
    world.ledger.hold = asyncio.Event()
    held.set()  # the entry that names it as a reader; the one that takes it back waits
    await world.idle()
    world.switch()
    await judged(world)
    await world.idle()
    world.ledger.hold.set()
    world.ledger.hold = None
    await refreshing
    assert await world.receive(session, 1) == ["1"]
    await world.streams.close(session, "cancelled")
    (chain,) = read_chains(world.log, world.ledger.entries).values()
    assert (chain.moves, chain.ended) == (["start", "refreshed"], "cancelled")
