"""Reading the ledger and replaying records while another revision, or a suspension, comes into force."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from broker.core.audit import records
from broker.core.audit.records import ReplayQuestion
from broker.core.in_force import Order
from broker.core.record.fingerprint import identity
from broker.errors import EntenteError, Reason
from broker.model.overlay import Overlays, Suspension, SuspensionKind, Withdrawal
from tests.fakes.auditing import AUDITOR, AuditEngine, administrator, readings, ruled
from tests.fakes.delivery import TOPIC, registry
from tests.unit.test_audit_records import OLDER, READER, Archive, by_owner


class NoAuditors(AuditEngine):
    """A revision under which nobody reads anything."""

    async def decide(self, items: Any) -> Any:
        found = await super().decide([item for item in items if item["action"] != "audit"])
        denied = await super().decide(
            [
                {**item, "subject": {**item["subject"], "roles": []}}
                for item in items
                if item["action"] == "audit"
            ]
        )
        return {**found, **denied}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "parse_registry", lambda _: registry())
    monkeypatch.setattr(records, "PAUSE_S", 0)
    monkeypatch.setattr(records, "CHUNK_RECORDS", 1)


@pytest.fixture
async def archive() -> Archive:
    archive = Archive()
    await archive.fill()
    return archive


def switch(archive: Archive, engine: AuditEngine) -> None:
    engine.answer = by_owner
    later = ruled(engine, archive.world.clock, topics=archive.topics).present.regime
    archive.in_force.replace(Order(later, archive.in_force.present.overlays))


async def replayed(archive: Archive, change: Callable[[], None], **question: Any) -> int:
    """How many records are shown if something changes after the first one."""
    shown = 0
    asked = ReplayQuestion(TOPIC, **question)
    async with aclosing(archive.replays.replay(AUDITOR, asked)) as parts:
        async for part in parts:
            shown += len(part)
            if shown == len(part):
                change()
    return shown


@pytest.mark.parametrize(
    "question", [{}, {"subject": READER}, {"subject": READER, "revision": OLDER.id}], ids=str
)
async def test_whoever_may_not_replay_any_more_gets_no_further_record(
    archive: Archive, question: dict[str, Any]
) -> None:
    with pytest.raises(EntenteError) as refused:
        await replayed(archive, lambda: switch(archive, NoAuditors("sha256:later")), **question)
    expected = (
        Reason.POLICY_UNAVAILABLE
        if question.get("subject") and not question.get("revision")
        else Reason.AUDIT_DENIED
    )
    assert refused.value.reason is expected


async def test_a_replay_by_the_rules_in_force_ends_when_they_are_others(archive: Archive) -> None:
    with pytest.raises(EntenteError) as ended:
        await replayed(archive, lambda: switch(archive, AuditEngine("sha256:later")), subject=READER)
    assert ended.value.reason is Reason.POLICY_UNAVAILABLE


@pytest.mark.parametrize("question", [{}, {"subject": READER, "revision": OLDER.id}], ids=str)
async def test_any_other_replay_goes_on(archive: Archive, question: dict[str, Any]) -> None:
    nothing = await replayed(archive, lambda: None, **question)
    assert (
        await replayed(archive, lambda: switch(archive, AuditEngine("sha256:later")), **question) == nothing
    )


async def test_an_auditor_who_is_suspended_meanwhile_gets_no_further_record(archive: Archive) -> None:
    suspension = Suspension("s", SuspensionKind.AGENCY, "exchange", None, "why", "exchange", "admin", 0)

    def suspend() -> None:
        regime = archive.in_force.present.regime
        archive.in_force.replace(Order(regime, Overlays(1, {"s": suspension})))

    with pytest.raises(EntenteError) as refused:
        await replayed(archive, suspend)
    assert refused.value.reason is Reason.SUSPENDED


@pytest.mark.parametrize("question", [{}, {"subject": READER}], ids=str)
async def test_what_is_withdrawn_meanwhile_is_not_replayed(
    archive: Archive, question: dict[str, Any]
) -> None:
    before = await replayed(archive, lambda: None, **question)
    name = identity("//alpha/x", "alpha-red" if not question else "gamma-green")
    withdrawal = cast(Withdrawal, object())

    def withdraw() -> None:
        regime = archive.in_force.present.regime
        archive.in_force.replace(Order(regime, Overlays(1, withdrawn={name: withdrawal})))

    expected = before - 1 if not question else before
    assert await replayed(archive, withdraw, **question) == expected


@pytest.fixture
async def held() -> AsyncIterator[Archive]:
    yield Archive()


@pytest.mark.parametrize(
    "later", [NoAuditors("sha256:later"), AuditEngine("sha256:later")], ids=["fewer", "same"]
)
async def test_nothing_of_a_reading_is_shown_to_whose_eyes_are_others_by_its_end(
    held: Archive, later: AuditEngine
) -> None:
    made = readings(cast(Any, None), cast(Any, AsyncMock()), clock=held.world.clock, present=held.in_force)
    principal = administrator("alpha")
    scope = await made.scope(principal)
    shown = False
    try:
        async with made.begin(principal, scope, "ListEntries", {}):
            switch(held, later)
        shown = True
    except EntenteError as refused:
        assert refused.reason is Reason.AUDIT_DENIED
    assert shown is not isinstance(later, NoAuditors)
