"""Which kinds of records are still stored, how many of each, and since when."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from broker.core.record.envelope import instant_ms_attribute, read_labels, source_agency
from broker.core.simulate.model import Example, RecordKind
from broker.model.record import StoredRecord
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

MOST_RECORDS = 5_000_000
"""Records that are counted, at 8 bytes each."""

MOST_KINDS = 20_000


@dataclass(slots=True)
class Kept:
    """Records of one kind: when each was recorded, in milliseconds since 1970; an example is the newest of them."""

    times_ms: array[int]
    example: Example
    _is_sorted: bool = False

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.times_ms)

    def since(self, time_ms: int | None) -> int:
        """How many of them were recorded at `time_ms` or later; all for None."""
        if time_ms is None:
            return len(self.times_ms)
        if not self._is_sorted:
            self.times_ms = array("q", sorted(self.times_ms))
            self._is_sorted = True
        return len(self.times_ms) - bisect_left(self.times_ms, time_ms)


@dataclass(slots=True)
class Stored:
    """kinds: what is stored. cut: owners of whom more is stored than is counted. unplaced: records that cannot be read."""

    kinds: dict[RecordKind, Kept] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    unplaced: int = 0


class StoredReader:
    """Takes in records topic by topic; blocking, so that a broker has it done beside its event loop."""

    def __init__(self, now_ms: int, owner: str | None = None) -> None:
        """now_ms: what has expired by then counts no more. owner: count this agency's records only."""
        self._now_ms = now_ms
        self._owner = owner
        self._left = MOST_RECORDS
        self.stored = Stored()

    def add(self, topic: str, records: Sequence[StoredRecord]) -> None:
        """Take in more records of a topic."""
        for record in records:
            try:
                self._add(topic, record)
            except (DecodeError, ValueError):
                self.stored.unplaced += 1

    def _add(self, topic: str, record: StoredRecord) -> None:
        event = CloudEvent.FromString(record.body)
        owner = source_agency(event.source)
        if owner is None:
            raise ValueError("no agency's record")
        expires_ms = instant_ms_attribute(event, "expirytime")
        if self._owner not in (None, owner) or (expires_ms is not None and expires_ms <= self._now_ms):
            return
        kind = RecordKind(topic, event.type, owner, read_labels(event))
        kept = self.stored.kinds.get(kind)
        if self._left <= 0 or (kept is None and len(self.stored.kinds) >= MOST_KINDS):
            self.stored.cut.add(owner)
            return
        example = Example(event.source, event.id, record.recorded_ms)
        if kept is None:
            self.stored.kinds[kind] = Kept(array("q", (record.recorded_ms,)), example)
        else:
            kept.times_ms.append(record.recorded_ms)
            kept.example = example
        self._left -= 1
