"""What the overlays refuse before anything is decided: calls of who is suspended, and the use of a suspended topic."""

from __future__ import annotations

from broker.core.in_force import Order
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.overlay import SuspensionKind
from broker.model.principal import Principal


def require_caller(order: Order[Regime], principal: Principal, now_ms: int) -> None:
    """Raises EntenteError SUSPENDED for a principal that is suspended, or whose agency is. Why, its suspender tells."""
    found = order.judge.principal_suspended(principal.agency, principal.subject, now_ms)
    if found is not None:
        whole = found.kind is SuspensionKind.AGENCY
        raise EntenteError(Reason.SUSPENDED, "the caller's agency" if whole else "the caller")


def require_unsuspended(order: Order[Regime], principal: Principal, topic: str, now_ms: int) -> None:
    """As `require_caller`, and for a topic that is; ask only for those who may know that there is such a topic."""
    require_caller(order, principal, now_ms)
    if order.judge.topic_suspended(topic, now_ms) is not None:
        raise EntenteError(Reason.SUSPENDED, f"topic '{topic}'")
