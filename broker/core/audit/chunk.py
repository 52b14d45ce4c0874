"""What one stretch of an instance's entries comes to: small, so that it can go between processes, and joined in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from broker.core.audit.places import PageKey
from broker.core.audit.segments import Segment
from broker.core.audit.standings import Text
from broker.model.audit import Finding, Severity

MAX_FINDINGS = 20
"""Findings of one stretch that are kept; the others are counted."""

Whose = tuple[str, str, str]
"""Agency, subject, and the subscription's name."""

StreamName = tuple[str, str, str, int, str, str]
"""Agency, subject, subscription, epoch, topic, purpose."""

RESTORE = "compare the ledger with a copy that somebody else keeps"
ASK = "ask the operator to explain it"
BROKEN = "the broker that wrote this does not account as documented"


@dataclass(slots=True)
class StreamPart:
    """What a stretch says of one stream; places are indexes of entries.

    first: its first entry here. moved: its start. begin, end: where it stood before the first and after the last entry that
    says so; a list is a cursor, of a stream that was moved back. acknowledged: the greatest positions, said last there.
    """

    name: StreamName
    first: int
    opened: int | None = None
    moved: tuple[int, list[int] | None, list[int], str] | None = None
    begin: tuple[int, Text | list[int]] | None = None
    end: tuple[int, Text] | None = None
    closed: int | None = None
    acknowledged: list[int] | None = None
    acknowledged_at: int = 0
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did to a subscription: `created` or `seek` with where it stands since then, or `delete`."""

    whose: Whose
    index: int
    time_ms: int
    change: str
    came_from: list[int] | None = None
    to: list[int] | None = None


@dataclass(slots=True)
class Chunk:
    """See the module. Indexes count entries in their order, whatever they say of themselves.

    misplaced: where entries' own indexes begin to differ from their place, and by how much, as far as this stretch can know.
    erased: runs of entries without openings. keys: what configuration and key_rotated entries say of ledger keys.
    blocks: the roots of complete blocks of 256 leaves, by number. published, released: places by pages; released_at: the
    first entry that touches a page. rows: by table how many the index holds of these entries.
    """

    instance: str
    begin: int
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    omitted: int = 0
    segments: list[Segment] = field(default_factory=list)
    blocks: dict[int, bytes] = field(default_factory=dict)
    misplaced: list[tuple[int, int]] = field(default_factory=list)
    epochs: list[tuple[int, int]] = field(default_factory=list)
    erased: list[list[int]] = field(default_factory=list)
    streams: dict[str, StreamPart] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    keys: list[tuple[int, str, Any]] = field(default_factory=list)
    published: dict[PageKey, int] = field(default_factory=dict)
    released: dict[PageKey, int] = field(default_factory=dict)
    released_at: dict[PageKey, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def fault(self, index: int, what: str, remedy: str) -> None:
        """Note a fault at an entry."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(Severity.FAULT, self.instance, index, what, remedy))
        else:
            self.omitted += 1

    def erase(self, index: int) -> None:
        """Note an entry that has no openings."""
        if self.erased and self.erased[-1][1] == index:
            self.erased[-1][1] = index + 1
        else:
            self.erased.append([index, index + 1])

    def erased_between(self, begin: int, end: int) -> bool:
        """Whether an entry from `begin` to before `end` has no openings, so that what it said is unknown."""
        return is_erased_between(self.erased, begin, end)


def is_erased_between(runs: list[list[int]], begin: int, end: int) -> bool:
    """As Chunk.erased_between, of runs in order."""
    return any(low < end and high > begin for low, high in runs)
