"""Preparing, switching and restricting in one instance: what may fail fails before anything changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from broker.adapters.opa.child import OpaStartFailed
from broker.app import switching
from broker.app.regime import OpenRegime, RegimeBuilder
from broker.app.switching import PreparedRegime, Switching
from broker.core.control.applier import PreparationFailed
from broker.core.decide import Question, make_question
from broker.errors import NoDecision, RulebookRefused, StorageUnavailable
from broker.model.decision import Decision, Effect
from broker.model.overlay import Overlays, Suspension, SuspensionKind
from broker.model.rulebook import Rules
from tests.fakes.delivery import WITHHOLD, ScriptedDecider
from tests.fakes.streams import StreamWorld


class Engine:
    """Answers the canary as a test says."""

    def __init__(self) -> None:
        self.answers: Mapping[str, Decision] | NoDecision = {"canary": Decision(Effect.WITHHOLD)}
        self.down = 0

    async def decide(self, items: Sequence[Any]) -> Mapping[str, Decision]:
        assert [item["id"] for item in items] == ["canary"]
        if self.down:
            self.down -= 1
            raise NoDecision("it is being restarted")
        if isinstance(self.answers, NoDecision):
            raise self.answers
        return self.answers


class Builder:
    """Builds regimes of the world's topic; closed: whose engines were stopped, by revision."""

    def __init__(self, world: StreamWorld) -> None:
        self.world = world
        self.engine = Engine()
        self.decider = ScriptedDecider()
        self.error: Exception | None = None
        self.closed: list[str] = []
        self.stopped = asyncio.Event()
        self.before: list[OpenRegime | None] = []

    @property
    def engines(self) -> Builder:
        """It lends what it builds from."""
        return self

    async def lend(self, revision_id: str) -> str:
        """As Engines do."""
        if self.error is not None:
            raise self.error
        return revision_id

    async def build(self, revision: str, before: OpenRegime | None = None) -> OpenRegime:
        self.before.append(before)
        rules = Rules(revision, "scripted 1")
        built = self.world.regime(self.decider, engine=self.engine, rules=rules)
        return self.opened(built)

    def opened(self, of: Any) -> OpenRegime:
        stack = AsyncExitStack()
        stack.callback(self.stopped.set)
        stack.callback(self.closed.append, of.rules.revision)
        return OpenRegime(of, cast(Any, None), stack)


class Instance:
    """One instance whose rules are switched."""

    def __init__(self) -> None:
        self.world = StreamWorld()
        self.builder = Builder(self.world)
        self.first = self.builder.opened(self.world.in_force.present.regime)
        self.switching = Switching(
            cast(RegimeBuilder, self.builder),
            self.world.in_force,
            self.first,
        )
        self.switching.attach(self.world.fanout)

    @property
    def revision(self) -> str:
        return self.world.in_force.present.regime.rules.revision


@pytest.fixture
async def instance(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Instance]:
    monkeypatch.setattr(switching, "CLOSE_AFTER_S", 0.0)
    made = Instance()
    yield made
    await made.world.close()
    await made.switching.close()


async def test_a_prepared_revision_comes_into_force_at_once_and_the_one_before_is_stopped(
    instance: Instance,
) -> None:
    prepared = await instance.switching.prepare("sha256:b")
    assert (prepared.revision, prepared.engine) == ("sha256:b", "scripted 1")
    assert instance.revision == "sha256:0"
    over = instance.switching.switch(prepared)
    assert instance.revision == "sha256:b"
    await asyncio.wait_for(over, 10)
    await asyncio.wait_for(instance.builder.stopped.wait(), 10)
    assert instance.builder.closed == ["sha256:0"]
    assert instance.builder.before == [instance.first]
    await prepared.discard()
    assert instance.builder.closed == ["sha256:0"]


async def test_what_is_discarded_is_stopped_and_nothing_changed(instance: Instance) -> None:
    prepared = await instance.switching.prepare("sha256:b")
    await prepared.discard()
    assert instance.builder.closed == ["sha256:b"]
    assert instance.revision == "sha256:0"


async def test_nothing_is_put_in_force_twice(instance: Instance) -> None:
    prepared = await instance.switching.prepare("sha256:b")
    await instance.switching.switch(prepared)
    with pytest.raises(ValueError, match="already"):
        instance.switching.switch(prepared)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RulebookRefused(("data/x: wrong; correct it", "more")), "data/x: wrong; correct it"),
        (OpaStartFailed("OPA did not start"), "OPA did not start"),
        (StorageUnavailable("no store"), "no store"),
    ],
)
async def test_a_revision_that_cannot_be_prepared_changes_nothing_and_says_why(
    instance: Instance, error: Exception, cause: str
) -> None:
    instance.builder.error = error
    with pytest.raises(PreparationFailed) as failed:
        await instance.switching.prepare("sha256:b")
    assert str(failed.value) == cause
    assert instance.revision == "sha256:0"


@pytest.mark.parametrize("answers", [NoDecision("it is down"), {}])
async def test_an_engine_that_does_not_answer_the_canary_is_not_taken(
    instance: Instance, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "TRY_S", 0.0)
    instance.builder.engine.answers = answers
    with pytest.raises(PreparationFailed, match="engine"):
        await instance.switching.prepare("sha256:b")
    assert instance.builder.closed == ["sha256:b"]


async def test_an_engine_that_is_being_started_again_is_waited_for(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "TRY_S", 600.0)
    monkeypatch.setattr(switching, "TRY_AGAIN_S", 0.0)
    instance.builder.engine.down = 3
    session = await instance.world.open(records=1)
    prepared = await asyncio.wait_for(instance.switching.prepare("sha256:b"), 60)
    assert (prepared.revision, instance.builder.engine.down) == ("sha256:b", 0)
    assert instance.builder.closed == []
    assert instance.builder.decider.calls == 4, "streams and publishers, and both again once it answers"
    await instance.switching.switch(prepared)
    assert session.is_open


async def test_a_preparation_that_is_given_up_stops_its_engine(instance: Instance) -> None:
    await instance.world.open(records=1)
    asked = asyncio.Event()

    async def never(_: Any) -> list[Decision | None]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    cast(Any, instance.builder.decider).decide = never
    preparing = asyncio.ensure_future(instance.switching.prepare("sha256:b"))
    await asyncio.wait_for(asked.wait(), 10)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert instance.builder.closed == ["sha256:b"]


async def test_what_publishers_asked_lately_is_decided_before_the_switch(instance: Instance) -> None:
    item = {"action": "publish", "subject": {"agency": "cyber-centre"}, "topic": "topic"}
    asked = make_question(item, "cyber-centre")
    looked_for: list[tuple[Sequence[str], int]] = []

    def lately(actions: Sequence[str], most: int) -> list[Question]:
        looked_for.append((actions, most))
        return [asked]

    cast(Any, instance.world.in_force.present.regime.decider).asked_lately = lately
    await instance.switching.prepare("sha256:b")
    assert looked_for == [(("publish", "subscribe"), switching.LATE_QUESTIONS)]
    assert instance.builder.decider.recall(asked) is not None


async def test_what_takes_too_long_to_warm_does_not_hold_up_the_preparation(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "WARM_S", 0.0)
    await instance.world.open(records=1)
    prepared = await instance.switching.prepare("sha256:b")
    assert isinstance(prepared, PreparedRegime)
    await prepared.discard()


async def test_the_result_of_a_switch_waits_for_passages_and_for_every_streams_first_judgement(
    instance: Instance,
) -> None:
    session = await instance.world.open(records=1)
    prepared = await instance.switching.prepare("sha256:b")
    order = instance.world.in_force.present
    with instance.world.in_force.passage(order):
        over = instance.switching.switch(prepared)
        await instance.world.idle()
        assert not over.done()
    await asyncio.wait_for(over, 10)
    assert session.admitted.rules.revision == "sha256:b"


async def test_a_stream_that_is_denied_has_ended_when_the_switch_is_done(instance: Instance) -> None:
    session = await instance.world.open(records=1)
    instance.builder.decider.answer = lambda _: WITHHOLD
    await instance.switching.switch(await instance.switching.prepare("sha256:b"))
    assert not session.is_open


async def test_overlays_stay_over_the_next_revision_and_end_streams_at_once(instance: Instance) -> None:
    kept = await instance.world.open("p-1", records=1)
    ended = await instance.world.open("p-2", records=1)
    suspension = Suspension(
        "s", SuspensionKind.PRINCIPAL, "consumer/p-2", None, "why", "exchange", "admin", 0
    )
    over = instance.switching.restrict(Overlays(7, {"s": suspension}))
    assert (kept.is_open, ended.is_open) == (True, False)
    await asyncio.wait_for(over, 10)
    assert instance.revision == "sha256:0"
    await instance.switching.switch(await instance.switching.prepare("sha256:b"))
    assert instance.world.in_force.present.overlays.epoch == 7
    assert kept.is_open


async def test_at_the_end_all_that_was_opened_is_stopped(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "CLOSE_AFTER_S", 60.0)
    await instance.switching.switch(await instance.switching.prepare("sha256:b"))
    await instance.switching.close()
    assert sorted(instance.builder.closed) == ["sha256:0", "sha256:b"]
