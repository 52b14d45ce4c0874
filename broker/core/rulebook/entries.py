"""Ledger entries of changes of the rulebook, `rulebook_changed`, and what they have in common with control events."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.decide import Ruling
from broker.core.evidence import Evidence, decisions, who
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.core.rulebook.proposals import Proposal
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal

TEXT_CHARACTERS = 2_000
"""The longest message or reason."""


class ChangeEntries:
    """Writes them; every method raises EntenteError LEDGER_UNAVAILABLE."""

    def __init__(self, in_force: InForce[Regime], evidence: Evidence) -> None:
        self._in_force = in_force
        self._evidence = evidence

    async def write(
        self, principal: Principal, change: dict[str, JsonValue], rulings: Sequence[Ruling]
    ) -> None:
        """One entry: who, what changes, and the decisions by which it may."""
        order = self._in_force.present
        told = decisions(rulings, order.regime.rules)
        body: dict[str, JsonValue] = {"who": who(principal), "change": change, "decisions": told}
        await self._evidence.write("rulebook_changed", body, order=order)

    async def tell(
        self,
        principal: Principal,
        what: str,
        proposal: Proposal,
        rulings: Sequence[Ruling],
        **more: JsonValue,
    ) -> None:
        """A step of a proposal."""
        change: dict[str, JsonValue] = {
            "what": what,
            "proposal": proposal.id,
            "revision": proposal.revision,
            "parent": proposal.parent,
            **more,
        }
        await self.write(principal, change, rulings)


def by(principal: Principal) -> dict[str, JsonValue]:
    """Who does something, as the control log names it."""
    return {"agency": principal.agency, "subject": principal.subject}


def require_text(text: str, what: str) -> None:
    """Raises REQUEST_INVALID for a text that is empty or too long."""
    if not text.strip() or len(text) > TEXT_CHARACTERS:
        raise EntenteError(Reason.REQUEST_INVALID, f"its {what} is not 1 to {TEXT_CHARACTERS} characters")
