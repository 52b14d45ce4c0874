"""Publishing and trying out while another revision, or a suspension, comes into force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from broker.core.decide import Question
from broker.core.preview import Previewer
from broker.core.publish import Accepted, Outcome, Publisher
from broker.errors import EntenteError, Reason
from broker.model.decision import Decision
from broker.model.overlay import Suspension, SuspensionKind
from broker.ports.record_log import RecordLog
from tests.fakes.delivery import RELEASE, TOPIC, WITHHOLD, FixedKeys, ScriptedDecider, World
from tests.fakes.regimes import AnyIdentity
from tests.unit.test_publish import AppendOnly, event


class Desk:
    """A publisher in a world whose rules change."""

    def __init__(self) -> None:
        self.world = World()
        self.log = AppendOnly()
        world = self.world
        self.publisher = Publisher(
            in_force=world.in_force,
            log=cast(RecordLog, self.log),
            evidence=world.evidence,
            codec=world.codec,
            keys=FixedKeys(),
            clock=world.clock,
        )
        self.previewer = Previewer(in_force=world.in_force, evidence=world.evidence, clock=world.clock)

    def begin(self, *ids: str) -> asyncio.Future[list[Outcome]]:
        """Publish as agency alpha."""
        records = [event(each) for each in ids or ("1",)]
        principal = self.world.principal("p-1", "alpha")
        return asyncio.ensure_future(self.publisher.publish(principal, TOPIC, records, "ref-1"))

    async def refused(self) -> Reason:
        with pytest.raises(EntenteError) as refused:
            await self.begin()
        return refused.value.reason

    def rules(self) -> list[str]:
        """The revisions of the publish entries."""
        return [cast(Any, entry.body["rules"])["revision"] for entry in self.world.ledger.of("publish")]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.world.close()


class Slow(ScriptedDecider):
    """Answers once it is let, to the questions from a number on."""

    def __init__(self, wait_at: int) -> None:
        super().__init__()
        self.wait_at = wait_at
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.gone = False

    async def decide(self, questions: Sequence[Question]) -> list[Decision | None]:
        self.calls += 1
        if self.calls >= self.wait_at:
            self.asked.set()
            await self.go_on.wait()
        return [None if self.gone else RELEASE for _ in questions]


def denying() -> ScriptedDecider:
    """Everybody may subscribe, and so know the topic; nobody may publish."""
    decider = ScriptedDecider()
    decider.answer = lambda question: WITHHOLD if question.item["action"] == "publish" else RELEASE
    return decider


@pytest.mark.parametrize("at", [1, 2], ids=["permission", "records"])
@pytest.mark.parametrize("gone", [False, True], ids=["answered", "engine stopped"])
async def test_what_was_decided_before_a_switch_is_decided_again(desk: Desk, at: int, gone: bool) -> None:
    slow = Slow(at)
    await desk.world.switch(slow)
    publishing = desk.begin()
    await slow.asked.wait()
    await desk.world.switch(denying())
    slow.gone = gone
    slow.go_on.set()
    (outcome,) = await publishing
    assert isinstance(outcome, EntenteError)
    assert outcome.reason is Reason.PUBLISH_DENIED
    assert desk.log.records == {}
    assert desk.rules() == ["sha256:2"]


async def test_without_a_switch_no_decision_is_an_answer_that_says_so(desk: Desk) -> None:
    desk.world.decider.answer = lambda _: None
    assert await desk.refused() is Reason.POLICY_UNAVAILABLE


async def test_a_switch_waits_for_what_is_being_stored_and_accounted_for(desk: Desk) -> None:
    desk.log.hold, desk.world.ledger.hold = asyncio.Event(), asyncio.Event()
    publishing = desk.begin()
    await desk.log.asked.wait()
    over = desk.world.switch(denying())
    await desk.world.idle()
    assert not over.done()
    desk.log.hold.set()
    await desk.world.ledger.asked.wait()
    await desk.world.idle()
    assert not over.done()
    desk.world.ledger.hold.set()
    (outcome,) = await publishing
    assert isinstance(outcome, Accepted)
    assert over.done()
    assert desk.rules() == ["sha256:0"]


async def test_a_stream_of_batches_is_refused_once_the_registration_does_not_know_its_caller(
    desk: Desk,
) -> None:
    await desk.begin("1")
    identity = AnyIdentity()
    identity.unknown = {"p-1"}
    await desk.world.switch(identity=identity)
    assert await desk.refused() is Reason.CLAIM_NOT_PERMITTED
    assert len(desk.log.records) == 1


def suspended(kind: SuspensionKind, target: str, owner: str | None = None) -> Suspension:
    return Suspension("s", kind, target, owner, "why", "exchange", "admin", 0)


@pytest.mark.parametrize(
    "suspension",
    [
        suspended(SuspensionKind.AGENCY, "alpha"),
        suspended(SuspensionKind.PRINCIPAL, "alpha/p-1"),
        suspended(SuspensionKind.PRINCIPAL, "alpha/p-1", "alpha"),
        suspended(SuspensionKind.TOPIC, TOPIC),
    ],
    ids=lambda each: f"{each.kind} {each.owner}",
)
async def test_who_and_what_is_suspended_is_refused_and_told_no_reason(
    desk: Desk, suspension: Suspension
) -> None:
    await desk.world.restrict(suspension)
    with pytest.raises(EntenteError) as refused:
        await desk.begin()
    assert refused.value.reason is Reason.SUSPENDED
    assert "why" not in str(refused.value)
    with pytest.raises(EntenteError) as refused:
        await desk.previewer.preview(desk.world.principal("p-1", "alpha"), TOPIC, [event("1")], "ref-1")
    assert refused.value.reason is Reason.SUSPENDED
    assert desk.log.records == {}


@pytest.mark.parametrize(
    "suspension",
    [
        suspended(SuspensionKind.AGENCY, "beta"),
        suspended(SuspensionKind.PRINCIPAL, "alpha/p-2"),
        suspended(SuspensionKind.TOPIC, "another"),
        suspended(SuspensionKind.AGENCY, "alpha", "beta"),
        suspended(SuspensionKind.TOPIC, TOPIC, "beta"),
    ],
    ids=lambda each: f"{each.kind} {each.owner}",
)
async def test_others_suspensions_hold_nobody_up(desk: Desk, suspension: Suspension) -> None:
    await desk.world.restrict(suspension)
    (outcome,) = await desk.begin()
    assert isinstance(outcome, Accepted)


async def test_a_suspended_topic_is_missing_to_whom_it_is_hidden(desk: Desk) -> None:
    await desk.world.restrict(suspended(SuspensionKind.TOPIC, TOPIC))
    desk.world.decider.answer = lambda _: WITHHOLD
    assert await desk.refused() is Reason.TOPIC_NOT_FOUND


async def test_a_suspension_between_decision_and_storing_stops_the_record(desk: Desk) -> None:
    slow = Slow(2)
    await desk.world.switch(slow)
    publishing = desk.begin()
    await slow.asked.wait()
    await desk.world.restrict(suspended(SuspensionKind.PRINCIPAL, "alpha/p-1"))
    slow.go_on.set()
    with pytest.raises(EntenteError) as refused:
        await publishing
    assert refused.value.reason is Reason.SUSPENDED
    assert desk.log.records == {}


async def test_an_outlook_is_of_the_rules_in_force_when_it_is_shown(desk: Desk) -> None:
    slow = Slow(1)
    await desk.world.switch(slow)
    principal = desk.world.principal("p-1", "alpha")
    trying = asyncio.ensure_future(desk.previewer.preview(principal, TOPIC, [event("1")], "ref-1"))
    await slow.asked.wait()
    await desk.world.switch()
    slow.go_on.set()
    (outlook,) = await trying
    assert outlook.refusal is None
    shown = [cast(Any, entry.body["rules"])["revision"] for entry in desk.world.ledger.of("preview")]
    assert shown == ["sha256:1", "sha256:2"]
