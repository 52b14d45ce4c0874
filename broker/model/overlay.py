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

    def holds_at(self, now_ms: int) -> bool:
        """Whether it restricts anything then."""
        over = self.until_ms is not None and now_ms >= self.until_ms
        lapsed = self.ratify_by_ms is not None and self.ratified_by is None and now_ms >= self.ratify_by_ms
        return not over and not lapsed


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A record that is never delivered again; `identity` is that of broker.core.record.fingerprint, 16 bytes."""

    source: str
    id: str
    identity: bytes
    reason: str
    by_agency: str
    by_subject: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Overlays:
    """All that is suspended and withdrawn; epoch: rises with each change, and stands in every ledger entry."""

    epoch: int = 0
    suspensions: Mapping[str, Suspension] = field(default_factory=dict)
    withdrawn: Mapping[bytes, Withdrawal] = field(default_factory=dict)
