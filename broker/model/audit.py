"""What auditing finds and tells: findings, sightings of a record, what an agency received."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.model.ledger import JsonValue


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long task is: `done` of `total` entries, None as long as nobody knows how many there are."""

    stage: str
    done: int
    total: int | None = None


ProgressCallback = Callable[[Progress], None]


class Severity(StrEnum):
    """FAULT: the ledger is not what it should be. REMARK: something that its reader should know, such as a crash."""

    FAULT = "fault"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; instance "" and index None where it has no place."""

    severity: Severity
    instance: str
    index: int | None
    what: str
    remedy: str

    def line(self) -> str:
        """One line: place, what, what to do."""
        at = f"{self.instance} entry {self.index}" if self.index is not None else self.instance or "ledger"
        return f"{at}: {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """The contiguous entries of one instance that a reader or an index holds: from `begin` to before `end`.

    times in milliseconds since 1970 of the first and last of them; None without entries.
    """

    instance: str
    origin: str
    begin: int
    end: int
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry as the index knows it; `opened`: whether its openings are there."""

    instance: str
    index: int
    epoch: int
    kind: str
    time_ms: int
    leaf_hash: bytes
    opened: bool


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Which entries; None means any. Answers are ordered by index and hold at most `limit` rows.

    agency: entries that concern this agency, as the owner of records, or with its people. opened: whether their openings
    are there.
    """

    instance: str
    from_index: int = 0
    kinds: frozenset[str] | None = None
    agency: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 100
    opened: bool | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A record that was stored: its place in the record log, and the entry that says so.

    A record that was published again has one for each time, all with one place.
    """

    source: str
    id: str
    type: str
    owner: str
    labels: Mapping[str, JsonValue]
    topic: str
    partition: int
    offset: int
    duplicate: bool
    instance: str
    index: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One principal that was handed a record (or a notice of it), by one entry.

    decision: its input and output. treatments: by marking, as the decision says, e.g. {"pii": {"kind": "remove"}}; a marking
    that is not mentioned was removed. acknowledged: an acknowledged position of the same stream, or the position from which
    the subscription went on, lies beyond the record. ended: why the stream ended, None while it is open or if its instance
    stopped before it could say; a record that is not acknowledged and whose stream broke may not have arrived.
    """

    time_ms: int
    agency: str
    subject: str
    token: str
    certificate: str | None
    purpose: str
    subscription: str
    stream: str
    effect: str
    treatments: Mapping[str, JsonValue]
    decision: Mapping[str, JsonValue]
    revision: str
    engine: str
    topic: str
    partition: int
    offset: int
    acknowledged: bool
    acknowledged_ms: int | None
    ended: str | None
    instance: str
    index: int


@dataclass(frozen=True, slots=True)
class Sightings:
    """Who saw a record: how it was published, and everybody who was handed it, in the order of time.

    complete: every entry that could name it has its openings, and the ledger is covered from its beginning.
    """

    publications: tuple[Publication, ...]
    sightings: tuple[Sighting, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Reception:
    """What an agency's people were handed in one day: records of one label set, on one topic, for one purpose.

    day: ISO date in the zone that was asked for. records: places handed out, each once for an entry. handed_out: the same
    times the people that received them. labels: as the decisions' input has them.
    """

    day: str
    topic: str
    purpose: str
    type: str
    owner: str
    labels: Mapping[str, JsonValue]
    effect: str
    records: int
    handed_out: int
    entries: int
    first_ms: int = field(default=0)
    last_ms: int = field(default=0)
