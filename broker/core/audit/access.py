"""Who may read the ledger through the broker, and whose part of it: the rulebook says so."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.answers import Answer, answers_to
from broker.core.audit.view import Scope
from broker.core.in_force import InForce
from broker.core.questions import audit_question
from broker.core.regime import Regime
from broker.core.restrictions import require_caller
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.ports.clock import Clock


class AuditAccess:
    """Asks the revision in force. Both methods raise EntenteError AUDIT_DENIED, SUSPENDED, POLICY_UNAVAILABLE.

    The principal may have been authenticated by an earlier one, so they raise what `Identity.confirm` does too.
    """

    def __init__(self, in_force: InForce[Regime], clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock

    async def scope(self, principal: Principal) -> Scope:
        """Whose eyes the principal has: the most that it may see."""
        everything, own = answers = await self._ask(principal, ("exchange", "agency"))
        if everything.permitted:
            return Scope()
        if own.permitted:
            return Scope(principal.agency)
        raise _denied(answers)

    async def require_records(self, principal: Principal) -> None:
        """The principal may replay record topics."""
        (records,) = answers = await self._ask(principal, ("records",))
        if not records.permitted:
            raise _denied(answers)

    async def _ask(self, principal: Principal, scopes: Sequence[str]) -> list[Answer]:
        questions = [audit_question(principal, scope) for scope in scopes]
        order = self._in_force.present
        regime = order.regime
        await regime.identity.confirm(principal)
        require_caller(order, principal, self._clock.now_ms())
        return await answers_to(questions, regime.decider, self._clock)


def _denied(answers: Sequence[Answer]) -> EntenteError:
    """Why goes into the ledger only."""
    return EntenteError(Reason.AUDIT_DENIED, decisions=tuple(answer.ruling for answer in answers))
