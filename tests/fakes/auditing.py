"""Who may read a made-up ledger, and what reading it needs besides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from broker.core.audit.access import AuditAccess
from broker.core.audit.fresh import FreshIndex
from broker.core.audit.readings import Readings
from broker.core.decide import Decider
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.model.decision import KEEP, Decision, Effect
from broker.model.principal import Principal
from broker.model.rulebook import Rules
from broker.ports.audit_index import AuditIndex
from broker.ports.clock import Clock
from broker.ports.ledger_log import LedgerReader
from broker.ports.policy_engine import Item
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import MemoryLedger
from tests.fakes.regimes import in_force

RELEASE = Decision(Effect.RELEASE, {"unreviewed": KEEP}, ("keep-quiet",))
WITHHOLD = Decision(Effect.WITHHOLD, reasons=("scripted",))


class AuditEngine:
    """Answers `audit` as the default rulebook does, and `deliver` by a function of owner and classification.

    silent: so many batches have no decision about deliveries.
    """

    def __init__(self, revision: str = "sha256:present") -> None:
        self.revision = revision
        self.version = "scripted 1"
        self.silent = 0
        self.answer: Callable[[str, str], Decision] = lambda owner, label: RELEASE

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        """See PolicyEngine."""
        found: dict[str, Decision] = {}
        for item in items:
            if item["action"] == "audit":
                found[str(item["id"])] = _audit(item)
            elif item["action"] == "deliver" and not self.silent:
                record = cast(Any, item["record"])
                found[str(item["id"])] = self.answer(record["agency"], record["labels"]["dataclassification"])
        self.silent = max(0, self.silent - 1)
        return found

    async def close(self) -> None:
        """See PolicyEngine."""
        raise NotImplementedError


def _audit(item: Item) -> Decision:
    subject = cast(Any, item["subject"])
    if item["scope"] == "agency":
        return RELEASE if "agency-admin" in subject["roles"] else WITHHOLD
    return RELEASE if subject["agency"] == "exchange" and "auditor" in subject["roles"] else WITHHOLD


def person(agency: str = "exchange", role: str = "auditor", subject: str = "someone") -> Principal:
    """A caller."""
    return Principal(agency, subject, (role,), (), {}, f"token-of-{subject}", datetime.now(UTC))


AUDITOR = person()


def administrator(agency: str) -> Principal:
    """One of an agency's own."""
    return person(agency, "agency-admin", "admin-1")


def readings(
    reader: LedgerReader,
    index: AuditIndex,
    *,
    ledger: MemoryLedger | None = None,
    engine: AuditEngine | None = None,
    clock: Clock | None = None,
    present: InForce[Regime] | None = None,
) -> Readings:
    """Readings of a ledger with its index, under the rulebook of `AuditEngine`; `ledger` takes what they write.

    present: what is in force, else what the engine answers.
    """
    clock, engine = clock or TurnedClock(), engine or AuditEngine()

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[LedgerReader, AuditIndex]]:
        yield reader, index

    present = present or ruled(engine, clock)
    evidence = Evidence(ledger or MemoryLedger(), clock, present)
    return Readings(AuditAccess(present, clock), FreshIndex(opened), evidence)


def ruled(engine: AuditEngine, clock: Clock, **parts: Any) -> InForce[Regime]:
    """In force is what the engine answers."""
    decider = Decider(engine, clock, time_dependent=False)
    rules = Rules(engine.revision, engine.version)
    return in_force(decider, rules=rules, engine=engine, clock=clock, **parts)
