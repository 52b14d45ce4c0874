"""What all changes of the overlays have in common: permitted by the rulebook, in the ledger, then in force everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from broker.core.administer import AdminAccess, Pair, Verb
from broker.core.audit.view import Scope
from broker.core.control.desk import ControlDesk, Enacted
from broker.core.control.state import ControlState
from broker.core.decide import Ruling
from broker.core.evidence import Evidence, decisions, who
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.clock import Clock

REASON_BYTES = 1_000
NAME_BYTES = 1_024

OPERATOR = "exchange"
"""The agency whose administrators are the exchange's (package entente.auditing)."""

Body = Mapping[str, JsonValue]


class Asking:
    """Used by the desks; methods raise EntenteError ADMINISTRATION_DENIED, POLICY_UNAVAILABLE, LEDGER_UNAVAILABLE."""

    def __init__(self, access: AdminAccess, control: ControlDesk, evidence: Evidence, clock: Clock) -> None:
        self._access = access
        self._control = control
        self._evidence = evidence
        self._clock = clock

    @property
    def state(self) -> ControlState:
        """What is agreed on, as far as it is applied here."""
        return self._control.state

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._clock.now_ms()

    async def permitted(
        self, principal: Principal, verb: Verb, owner: str, author: Pair | None = None
    ) -> tuple[Ruling, ...]:
        """The decisions by which the principal may do it to what is this owner's; "" stands for the exchange."""
        return await self._access.require(principal, verb, author=author, about={"owner": owner})

    async def scope(self, principal: Principal) -> Scope:
        """Whose overlays the principal may see."""
        return await self._access.scope(principal)

    async def enact(
        self, principal: Principal, kind: str, told: Body, body: Body, rulings: tuple[Ruling, ...]
    ) -> Enacted:
        """Evidence first (design rule 3), then everywhere. told: what the ledger says of it. Raises also EventVoid."""
        rules = self._evidence.rules
        entry: dict[str, JsonValue] = {
            "who": who(principal),
            "change": {"what": kind, **told},
            "decisions": decisions(rulings, rules),
        }
        await self._evidence.write("overlay_changed", entry)
        return await self._control.enact(kind, body)


def own_scope(principal: Principal) -> str | None:
    """Whose overlays the principal makes: its agency's, or None for the exchange's."""
    return None if principal.agency == OPERATOR else principal.agency


def line(text: str, name: str, limit_bytes: int) -> str:
    """One printable line; raises EntenteError REQUEST_INVALID."""
    if not text or len(text.encode()) > limit_bytes or not text.isprintable():
        problem = f"{name} is empty, over {limit_bytes} bytes or not one printable line"
        raise EntenteError(Reason.REQUEST_INVALID, problem)
    return text
