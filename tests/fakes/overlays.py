"""What changing overlays needs besides: an agreement in memory, and who may administer, without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from broker.core.administer import AdminAccess, Pair
from broker.core.audit.view import Scope
from broker.core.control.desk import ControlDesk, Enacted
from broker.core.control.fold import EventVoid
from broker.core.control.members import Member, Members
from broker.core.control.state import ControlState
from broker.core.decide import Ruling
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.overlay.asking import Asking
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.control import ControlEvent
from broker.model.principal import Principal
from broker.model.registry import Administration
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import MemoryLedger
from tests.fakes.regimes import in_force, registry


class Agreement:
    """The ControlDesk of one or several instances that hear everything at once. unavailable: it cannot be written."""

    def __init__(self, clock: TurnedClock, ledger: MemoryLedger, *instances: str) -> None:
        members = {name: Member(name, f"run-{name}", 1, 0) for name in instances}
        self.state = replace(ControlState(), members=Members(members))
        self.events: list[ControlEvent] = []
        self.unavailable = False
        self._clock = clock
        self._ledger = ledger

    async def record(self, kind: str, body: Mapping[str, Any]) -> int:
        """See ControlDesk."""
        if self.unavailable:
            raise EntenteError(Reason.AGREEMENT_UNAVAILABLE)
        event = ControlEvent(kind, self._clock.now_ms(), "a", body)
        state = self.state.apply(event, len(self.events))
        self.events.append(event)
        if state is None:
            raise EventVoid(kind)
        self.state = state
        return len(self.events)

    async def enact(self, kind: str, body: Mapping[str, Any]) -> Enacted:
        """See ControlDesk; what is in force was in the ledger before."""
        assert self._ledger.of("overlay_changed"), "evidence comes first"
        return Enacted(await self.record(kind, body), (), 1.5)


class Administrators:
    """The AdminAccess of a rulebook in which whoever has an administrator's role is one; records what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Pair | None]] = []

    async def require(
        self,
        principal: Principal,
        verb: str,
        areas: Sequence[Pair] = (),
        author: Pair | None = None,
        approvals: Sequence[Pair] = (),
        about: Mapping[str, str] | None = None,
    ) -> tuple[Ruling, ...]:
        """See AdminAccess."""
        owner = (about or {})["owner"]
        self.asked.append((verb, owner, author))
        if not self._permits(principal, verb, owner, author):
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        return ()

    async def scope(self, principal: Principal, verb: str = "read") -> Scope:
        """See AdminAccess."""
        if principal.agency == "exchange":
            return Scope()
        await self.require(principal, verb, about={"owner": principal.agency})
        return Scope(principal.agency)

    def _permits(self, principal: Principal, verb: str, owner: str, author: Pair | None) -> bool:
        exchange = principal.agency == "exchange" and "exchange-admin" in principal.roles
        own = owner == principal.agency and "agency-admin" in principal.roles
        if verb == "ratify":
            return exchange and owner == "" and author not in (None, principal.key)
        return own or (exchange and owner == "" and verb != "withdraw")


class Overlaying:
    """The parts that the desks are made of."""

    def __init__(self, *instances: str) -> None:
        self.clock = TurnedClock()
        self.ledger = MemoryLedger()
        known = replace(registry(), administration=Administration(1, 1, 24))
        self.in_force: InForce[Regime] = in_force(None, known, clock=self.clock)
        self.evidence = Evidence(self.ledger, self.clock, self.in_force)
        self.agreement = Agreement(self.clock, self.ledger, *(instances or ("a",)))
        self.access = Administrators()
        self.asking = Asking(cast(AdminAccess, self.access), self.control, self.evidence, self.clock)

    @property
    def control(self) -> ControlDesk:
        """As the use cases know it."""
        return cast(ControlDesk, self.agreement)

    def changes(self) -> list[dict[str, Any]]:
        """The changes that are in the ledger, in order."""
        return [cast(dict[str, Any], entry.body["change"]) for entry in self.ledger.of("overlay_changed")]


def exchange_admin(subject: str = "admin-1") -> Principal:
    """One of the exchange's administrators."""
    return person("exchange", "exchange-admin", subject)


def agency_admin(agency: str, subject: str = "admin-1") -> Principal:
    """One of an agency's administrators."""
    return person(agency, "agency-admin", subject)


def person(agency: str, role: str, subject: str) -> Principal:
    """Anybody."""
    return Principal(agency, subject, (role,), (), {}, f"token-{subject}", datetime.now(UTC))
