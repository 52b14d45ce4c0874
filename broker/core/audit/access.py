"""Who may read the ledger through the broker, and whose part of it: the rulebook says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from broker.core.audit.view import Scope
from broker.core.decide import Decider
from broker.core.questions import audit_question
from broker.errors import EntenteError, NoDecision, Reason
from broker.model.principal import Principal
from broker.ports.clock import Clock


class AuditAccess:
    """Asks one revision. Both methods raise EntenteError AUDIT_DENIED, POLICY_UNAVAILABLE."""

    def __init__(self, decider: Decider, clock: Clock) -> None:
        self._decider = decider
        self._clock = clock

    async def scope(self, principal: Principal) -> Scope:
        """Whose eyes the principal has: the most that it may see."""
        everything, own = await self._permitted(principal, ("exchange", "agency"))
        if everything:
            return Scope()
        if own:
            return Scope(principal.agency)
        raise EntenteError(Reason.AUDIT_DENIED)

    async def require_records(self, principal: Principal) -> None:
        """The principal may replay record topics."""
        (permitted,) = await self._permitted(principal, ("records",))
        if not permitted:
            raise EntenteError(Reason.AUDIT_DENIED)

    async def _permitted(self, principal: Principal, scopes: Sequence[str]) -> list[bool]:
        questions = [audit_question(principal, scope) for scope in scopes]
        try:
            decisions = await self._decider.decide(questions)
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        if any(decision is None for decision in decisions):
            raise EntenteError(Reason.POLICY_UNAVAILABLE)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return [d is not None and d.permitted and d.holds_at(now) for d in decisions]
