"""Differences as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class How(StrEnum):
    """What became of a thing."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Detail:
    """One key of a thing that was changed; `before` or `after` is None where it was not there."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is different.

    kind: "agency", "agreement", "rule" and so on. owner: the agency whose part of the rulebook it is, None for the
    exchange's. file, line: where it stands in the newer rulebook, of what was removed in the older one.
    """

    kind: str
    name: str
    how: How
    owner: str | None
    file: str
    line: int | None
    details: tuple[Detail, ...] = ()
