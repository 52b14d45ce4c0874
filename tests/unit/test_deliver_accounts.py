"""What one entry says of many streams, and what becomes of a stream's account when it leaves, ends or changes its class."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from broker.core.decide import Question
from broker.core.deliver import history
from broker.core.deliver.session import Session
from broker.core.places import StartAt
from broker.errors import EntenteError, LedgerFenced, Reason
from broker.model.decision import Decision, Effect
from protos.entente.v1.exchange_pb2 import SubscribeResponse
from tests.fakes.chains import Chain, entry_of, read_chains
from tests.fakes.delivery import RELEASE, WITHHOLD, label_of, owner_of
from tests.fakes.streams import StreamWorld

pytestmark = pytest.mark.usefixtures("quick_groups")


def by_label(question: Question) -> Decision:
    """Green records are released to readers; nothing is to guests, and all may subscribe."""
    if question.item["action"] != "deliver":
        return RELEASE
    return RELEASE if label_of(question) == "green" and "guest" not in str(question.item) else WITHHOLD


@pytest.fixture
async def world() -> AsyncIterator[StreamWorld]:
    made = StreamWorld()
    made.decider.answer = by_label
    yield made
    await made.close()


async def store(world: StreamWorld, *labels: str) -> None:
    """A record of each label."""
    for label in labels:
        await world.store("alpha", str(len(world.log.records[0])), label=label)


def deliveries(world: StreamWorld) -> list[Any]:
    """The bodies of all delivery entries."""
    return [dict(entry.body) for entry in world.ledger.of("delivery")]


async def chain_of(world: StreamWorld, session: Session, cause: str = "completed") -> Chain:
    """End the stream and return what the ledger says of it."""
    await world.streams.close(session, cause)
    return read_chains(world.log, world.ledger.entries)[session.stream]


async def refreshing(world: StreamWorld, session: Session, role: str) -> asyncio.Future[None]:
    """A refresh that is under way and has come as far as it can now."""
    principal = world.principal(session.principal.subject, role=role)
    task = asyncio.ensure_future(world.streams.refresh(session, principal))
    await world.idle()
    return task


async def test_streams_that_joined_apart_share_an_entry_and_keep_their_own_histories(
    world: StreamWorld,
) -> None:
    early = await world.open("p-1", records=5)
    await store(world, "red", "red")
    await world.idle()
    late = await world.open("p-2", records=5)
    await world.idle()
    # The late one has caught up with the early one: one group, histories that are equal by value.
    await store(world, "red")
    await world.idle()
    newest = await world.open("p-3", records=5)
    await world.idle()
    await store(world, "green")
    for session in (early, late, newest):
        assert await world.receive(session, 1) == ["3"]
    (entry,) = deliveries(world)
    assert [history["outcomes"] for history in entry["considered"]] == [{"withhold": 3, "release": 1}]
    assert [history["receivers"] for history in entry["considered"]] == [[0, 1, 2]]
    await store(world, "green")
    latecomer = await world.open("p-4", records=5)
    assert await world.receive(latecomer, 2) == ["3", "4"]
    for session in (early, late, newest, latecomer):
        assert (await chain_of(world, session)).at["next"] == [5]


async def test_histories_that_differ_stand_beside_each_other(world: StreamWorld) -> None:
    first = await world.open("p-1", records=5)
    await store(world, "red", "red")
    await world.idle()
    cursor = first.cursor()
    second = await world.open("p-1", records=5)
    await world.idle()
    third = await world.open("p-1", start=StartAt(cursor=cursor), records=5)
    await store(world, "green")
    for session in (first, second, third):
        assert await world.receive(session, 1) == ["2"]
    (entry,) = deliveries(world)
    assert sorted(history["from"]["next"] for history in entry["considered"]) == [[0], [2]]
    streams = {
        history["from"]["next"][0]: {entry["receivers"][n]["stream"] for n in history["receivers"]}
        for history in entry["considered"]
    }
    alike = streams.pop(0) if third.stream not in streams[0] else streams.pop(2)
    assert alike == {first.stream, second.stream}
    assert list(streams.values()) == [{third.stream}]
    (alone,) = (history for history in entry["considered"] if len(history["receivers"]) == 1)
    assert alone["outcomes"] == {"release": 1}


async def test_a_stream_that_was_taken_over_is_not_accounted_for_what_comes_after(world: StreamWorld) -> None:
    staying = await world.open("p-1", records=5)
    leaving = await world.open("p-1", subscription="s", records=5)
    await store(world, "red")
    await world.idle()
    await world.open("p-1", subscription="s")
    assert leaving.failure is not None
    for _ in range(3):
        await store(world, "red")
        await world.idle()
    await store(world, "green")
    assert await world.receive(staying, 1) == ["4"]
    ended = await chain_of(world, leaving, leaving.failure.reason.name)
    # The step that was under way when it ended counts, and nothing after that.
    assert (ended.at["next"], ended.ended) == ([2], "SUBSCRIPTION_TAKEN_OVER")


async def test_who_left_while_a_batch_was_prepared_is_not_named(world: StreamWorld) -> None:
    leaving, staying = await world.open("p-1", records=5), await world.open("p-2", records=5)
    world.decider.hold = asyncio.Event()
    await store(world, "green")
    await world.idle()
    refresh = await refreshing(world, leaving, "guest")
    world.decider.hold.set()
    await refresh
    assert await world.receive(staying, 1) == ["0"]
    await world.idle()
    (entry,) = deliveries(world)
    assert [receiver["subject"] for receiver in entry["receivers"]] == ["p-2"]
    assert (await chain_of(world, leaving)).handed_out == [[]]


async def test_a_refresh_while_the_entry_is_written_moves_the_stream_back(world: StreamWorld) -> None:
    """It is in the entry of what its old class was to get, gets nothing of it, and the ledger says so."""
    changing, staying = await world.open("p-1", records=5), await world.open("p-2", records=5)
    world.ledger.hold = asyncio.Event()
    await store(world, "red", "green")
    await world.idle()
    refresh = await refreshing(world, changing, "guest")
    assert not refresh.done()
    assert changing.standing.next == (0,)
    world.ledger.hold.set()
    await refresh
    assert await world.receive(staying, 1) == ["1"]
    await world.idle()
    assert changing.budget().records == 5, "nothing was handed out"
    (moved,) = [entry for entry in world.ledger.of("moved") if "refreshed" in str(entry.body)]
    assert moved.body["move"] == {"from": [2], "to": [0], "cause": "refreshed"}
    chain = await chain_of(world, changing)
    assert (chain.moves, chain.at["next"]) == (["start", "refreshed"], [2])
    assert chain.handed_out == [[]]


async def test_a_refresh_that_changes_nothing_leaves_the_stream_where_it_is(world: StreamWorld) -> None:
    session = await world.open("p-1", records=5)
    world.ledger.hold = asyncio.Event()
    await store(world, "green")
    await world.idle()
    refresh = await refreshing(world, session, "reader")
    assert refresh.done()
    world.ledger.hold.set()
    assert await world.receive(session, 1) == ["0"]
    assert (await chain_of(world, session)).moves == ["start"]


async def test_a_stream_that_ends_while_its_entry_is_written_ends_after_it(world: StreamWorld) -> None:
    """The batch is accounted for and was not sent, as after a crash; the end says where the account stands."""
    session = await world.open("p-1", records=5)
    world.ledger.hold = asyncio.Event()
    await store(world, "red", "green", "red")
    await world.idle()
    closing = asyncio.ensure_future(world.streams.close(session, "cancelled"))
    await world.idle()
    assert world.ledger.of("stream_closed") == []
    world.ledger.hold.set()
    await closing
    chain = read_chains(world.log, world.ledger.entries)[session.stream]
    assert chain.handed_out == [[(0, 1)], []]
    assert not session._outbox


async def test_the_end_accounts_for_what_was_withheld_since_the_last_entry(world: StreamWorld) -> None:
    session = await world.open("p-1", records=5)
    await store(world, "green", "red", "red")
    assert await world.receive(session, 1) == ["0"]
    await store(world, "red")
    await world.idle()
    await world.streams.close(session, "completed")
    (closed,) = world.ledger.of("stream_closed")
    body: Any = closed.body
    (rest,) = body["considered"]
    assert rest["outcomes"] == {"withhold": 3 - _withheld(deliveries(world))}
    assert body["end"] == {"cause": "completed", "standing": {"next": [4], "lags": []}}


async def test_who_gets_credit_while_all_are_parked_takes_nobodys_history_along(world: StreamWorld) -> None:
    parked, lucky = await world.open("p-1", records=1), await world.open("p-2", records=1)
    await store(world, "green", "red")
    assert await world.receive(parked, 1) == await world.receive(lucky, 1) == ["0"]
    await world.idle()
    world.decider.hold = asyncio.Event()
    await store(world, "green")
    await world.idle()
    world.grant(lucky, 5)  # after it was found to have none
    world.decider.hold.set()
    assert await world.receive(lucky, 1) == ["2"]
    await store(world, "red", "red")
    await world.idle()
    chain = await chain_of(world, parked)
    assert chain.at["next"] in ([1], [2])
    world.grant(lucky, 5)
    assert (await chain_of(world, lucky)).at["next"] == [5]


async def test_a_long_stretch_without_release_is_written_out_and_nobody_sees_it(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_DECISIONS", 2)
    session = await world.open("p-1", records=5)
    for owner in ("alpha", "beta", "gamma"):
        await world.store(owner, owner, label="red")
        await world.idle()
    await store(world, "red")
    await world.idle()
    (entry,) = deliveries(world)
    assert (entry["count"], entry["places"], entry["decisions"]) == (0, [], [])
    (considered,) = entry["considered"]
    assert [count for _, count in considered["withheld"]] == [1, 1, 1]
    assert not session._outbox
    await store(world, "green")
    assert await world.receive(session, 1) == ["4"]
    assert (await chain_of(world, session)).handed_out == [[], [(0, 4)], []]


async def test_many_histories_of_one_group_are_made_one(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_HISTORIES", 3)
    sessions = [await world.open("p-1", records=5)]
    for _ in range(5):
        await store(world, "red")
        await world.idle()
        sessions.append(await world.open("p-1", start=StartAt(cursor=sessions[0].cursor()), records=5))
    await store(world, "red", "green")
    for session in sessions:
        assert await world.receive(session, 1) == ["6"]
    (group,) = world.fanout._groups.values()
    assert len(group[0]._histories._distinct) == 1
    for session in sessions:
        await chain_of(world, session)


async def test_histories_too_large_for_one_entry_are_written_in_parts(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [await world.open("p-1", records=5)]
    for owner in ("alpha", "beta", "gamma"):
        await world.store(owner, owner, label="red")
        await world.idle()
        sessions.append(await world.open("p-1", start=StartAt(cursor=sessions[0].cursor()), records=5))
    await world.idle()
    monkeypatch.setattr(history, "MAX_BYTES", 500)
    await store(world, "green")
    for session in sessions:
        assert await world.receive(session, 1) == ["3"]
    written = [entry for entry in deliveries(world) if entry["count"] == 0]
    assert len(written) > 1
    for entry in written:  # one that is too large by itself stands alone
        sizes = [len(orjson.dumps(history["withheld"])) for history in entry["considered"]]
        assert len(sizes) == 1 or sum(sizes) < 1_000
    for session in sessions:
        await chain_of(world, session)


async def test_a_batch_carries_a_receipt_of_exactly_what_it_holds(world: StreamWorld) -> None:
    world.decider.answer = lambda question: (
        Decision(Effect.NOTICE)
        if question.item["action"] == "deliver" and owner_of(question) == "beta"
        else by_label(question)
    )
    session = await world.open("p-1", records=5)
    await world.store("alpha", "a", label="green")
    await world.store("beta", "b", label="red")
    await world.idle()
    batches = [SubscribeResponse.FromString(outgoing.message).batch for outgoing in session._outbox]
    assert sum(len(batch.deliveries) for batch in batches) == 2
    for batch in batches:
        entry_of(world, batch, "p-1")
        changed = type(batch).FromString(batch.SerializeToString())
        changed.deliveries[0].disclosure.obligations.append("none")
        with pytest.raises(AssertionError):
            entry_of(world, changed, "p-1")
    effects = {decision["output"]["effect"] for entry in deliveries(world) for decision in entry["decisions"]}
    assert effects == {"release", "notice"}


async def test_receivers_are_named_with_what_their_tokens_are_bound_to(world: StreamWorld) -> None:
    session = await world.open("p-1", subscription="s", records=5)
    await store(world, "green")
    assert await world.receive(session, 1) == ["0"]
    (entry,) = deliveries(world)
    assert entry["receivers"] == [
        {
            "subject": "p-1",
            "token": "token-p-1",
            "certificate": None,
            "subscription": "s",
            "epoch": 1,
            "stream": session.stream,
        }
    ]
    assert entry["class"] == {
        "topic": "t",
        "agency": "consumer",
        "roles": ["reader"],
        "attributes": {},
        "purpose": "work",
    }


async def test_a_ledger_that_is_another_instances_releases_nothing_any_more(world: StreamWorld) -> None:
    session = await world.open("p-1", records=5)
    world.ledger.failures, world.ledger.error = 1_000_000, LedgerFenced("scripted")
    await store(world, "green", "red", "green")
    for _ in range(20):
        await world.idle()
    assert world.ledger.failures < 1_000_000
    assert not session._outbox
    assert (session.budget().records, session.standing.next) == (5, (0,))
    assert deliveries(world) == []


async def test_the_last_of_a_group_that_leaves_during_the_write_gives_nothing_up(world: StreamWorld) -> None:
    """Its group ends at once, and the entry that is being written counts all the same."""
    session = await world.open("p-1", records=5)
    world.ledger.hold = asyncio.Event()
    await store(world, "green")
    await world.idle()
    refresh = await refreshing(world, session, "guest")
    assert world.fanout._groups == {}
    world.ledger.hold.set()
    await refresh
    await world.idle()
    assert deliveries(world)[0]["count"] == 1
    chain = await chain_of(world, session)
    assert (chain.moves, chain.handed_out) == (["start", "refreshed"], [[]])


async def test_a_refresh_whose_entry_fails_ends_the_stream_and_its_chain_joins(world: StreamWorld) -> None:
    session = await world.open("p-1", records=5)
    world.ledger.hold = asyncio.Event()
    await store(world, "green")
    await world.idle()
    refresh = await refreshing(world, session, "guest")
    hold, world.ledger.hold = world.ledger.hold, asyncio.Event()
    hold.set()
    await world.idle()
    world.ledger.failures = 1
    world.ledger.hold.set()
    with pytest.raises(EntenteError) as refused:
        await refresh
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
    session.fail(refused.value)
    chain = await chain_of(world, session, "LEDGER_UNAVAILABLE")
    assert (chain.handed_out, chain.at["next"]) == ([[(0, 0)], []], [1])


def _withheld(entries: list[Any]) -> int:
    return sum(entry["considered"][0]["outcomes"].get("withhold", 0) for entry in entries)
