"""Where streams and subscriptions begin and go on from, as the ledger tells it: through `moved` entries lives are joined."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from broker.core.evidence import Evidence, who
from broker.model.ledger import JsonValue, LedgerEntry
from broker.model.principal import Principal
from broker.model.record import Positions
from broker.model.subscription import Subscription


class Cause(StrEnum):
    """Why something stands where it does now.

    START: a stream without a name. RESUMED: a named one goes on from its acknowledged position; TAKEOVER: while another
    stream of it was open on this instance. EXPIRED: that position lay before retention. REFRESHED: the stream's class
    changed while an entry that names it was written, and it was handed nothing of that.
    """

    CREATED = "created"
    RESUMED = "resumed"
    TAKEOVER = "takeover"
    SEEK = "seek"
    EXPIRED = "expired"
    START = "start"
    REFRESHED = "refreshed"


def stream_part(topic: str, purpose: str, subscription: str, epoch: int, stream: str) -> JsonValue:
    """The part `stream`; epoch 0 and stream "" where a call and no stream did something to a subscription."""
    return {
        "topic": topic,
        "purpose": purpose,
        "subscription": subscription,
        "epoch": epoch,
        "stream": stream,
    }


def moved_body(
    of: Mapping[str, JsonValue], came_from: Positions | None, to: Positions, cause: Cause
) -> dict[str, JsonValue]:
    """The body of a `moved` entry; of: its parts `who` and `stream`."""
    move: dict[str, JsonValue] = {
        "from": None if came_from is None else list(came_from),
        "to": list(to),
        "cause": cause.value,
    }
    return {**of, "move": move}


def subscription_entries(
    evidence: Evidence,
    principal: Principal,
    change: str,
    subscription: Subscription,
    came_from: Positions | None = None,
    to: Positions | None = None,
) -> list[LedgerEntry]:
    """What a call does to a subscription (create, seek or delete), and, with `to`, where it stands from then on."""
    topic, purpose, name = subscription.topic, subscription.purpose, subscription.key.name
    changed: dict[str, JsonValue] = {
        "change": change,
        "subscription": name,
        "topic": topic,
        "purpose": purpose,
    }
    entries = [evidence.entry("subscription", {"who": who(principal), "change": changed})]
    if to is not None:
        of = {"who": who(principal), "stream": stream_part(topic, purpose, name, 0, "")}
        cause = Cause.CREATED if came_from is None else Cause.SEEK
        entries.append(evidence.entry("moved", moved_body(of, came_from, to, cause)))
    return entries
