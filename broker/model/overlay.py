"""Overlays: restrictions outside the rulebook that work at once, and only ever restrict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SuspensionKind(StrEnum):
    """What a suspension holds up."""

    AGENCY = "agency"
    PRINCIPAL = "principal"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Suspension:
    """One suspension. Times are milliseconds since 1970-01-01T00:00:00Z.

    target: an agency, "<agency>/<subject>", or a topic. owner: whose records (and, for a principal, people) it is about;
    None: the exchange's own, about everybody's. until_ms: when it ends by itself. ratify_by_ms: when it lapses unless a
    second person has ratified it; None: it needs nobody.
    """

    id: str
    kind: SuspensionKind
    target: str
    owner: str | None
    reason: str
    by_agency: str
    by_subject: str
    since_ms: int
    until_ms: int | None = None
    ratify_by_ms: int | None = None
    ratified_by: tuple[str, str] | None = None

    @property
    def ends_ms(self) -> int | None:
        """When it stops restricting by itself, as things stand; None if somebody has to lift it."""
        lapses_ms = self.ratify_by_ms if self.ratified_by is None else None
        times = [time_ms for time_ms in (self.until_ms, lapses_ms) if time_ms is not None]
        return min(times, default=None)

    @property
    def end_cause(self) -> EndCause:
        """Why it stops by itself; means nothing where somebody has to lift it."""
        return EndCause.ENDED if self.ends_ms == self.until_ms else EndCause.LAPSED

    def holds_at(self, now_ms: int) -> bool:
        """Whether it restricts anything then."""
        ends_ms = self.ends_ms
        return ends_ms is None or now_ms < ends_ms


class EndCause(StrEnum):
    """Why a suspension is over."""

    LIFTED = "lifted"
    ENDED = "ended"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class PastSuspension:
    """One that is over. by: agency and subject of who lifted it, None where its time did."""

    suspension: Suspension
    cause: EndCause
    at_ms: int
    by: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A record that is never delivered again; `identity` is that of broker.core.record.fingerprint, 16 bytes.

    tell_reason: whether those who were handed the record are told the reason. instance: the one that was asked.
    """

    source: str
    id: str
    identity: bytes
    owner: str
    reason: str
    tell_reason: bool
    by_agency: str
    by_subject: str
    at_ms: int
    instance: str


@dataclass(frozen=True, slots=True)
class Overlays:
    """All that is suspended and withdrawn; epoch: rises with each change, and stands in every ledger entry."""

    epoch: int = 0
    suspensions: Mapping[str, Suspension] = field(default_factory=dict)
    withdrawn: Mapping[bytes, Withdrawal] = field(default_factory=dict)
