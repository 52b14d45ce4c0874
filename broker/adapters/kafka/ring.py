"""The newest records of one partition in memory, bounded in bytes, from which reads at the tail are served."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from broker.model.record import StoredRecord

_OVERHEAD_BYTES = 200
_offset = attrgetter("offset")


class Ring:
    """Records in offset order: `start` is the first offset that can be served, `end` the next one expected."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.size = 0
        self._records: list[StoredRecord] = []
        self._dropped = 0

    def append(self, records: Sequence[StoredRecord], limit_bytes: int) -> None:
        """Take records that follow; ones that are here already are skipped. Then drop the oldest beyond the limit."""
        if records and records[0].offset < self.end:
            records = records[bisect_left(records, self.end, key=_offset) :]
        if not records:
            return
        self._records.extend(records)
        self.end = records[-1].offset + 1
        self.size += sum(len(record.body) for record in records) + _OVERHEAD_BYTES * len(records)
        self._drop(limit_bytes)

    def since(self, position: int, max_records: int, max_bytes: int) -> Sequence[StoredRecord]:
        """Records from a position at or after `start`: within both limits, but one at least if there is one."""
        first = max(self._dropped, bisect_left(self._records, position, key=_offset))
        last = min(first + max_records, len(self._records))
        size, at = 0, first
        while at < last and (size + len(self._records[at].body) <= max_bytes or at == first):
            size += len(self._records[at].body)
            at += 1
        return self._records[first:at]

    def forget_before(self, offset: int) -> None:
        """Drop what has passed out of retention."""
        while self._dropped < len(self._records) and self._records[self._dropped].offset < offset:
            self._drop_one()
        self.start = max(self.start, offset)
        self.end = max(self.end, offset)
        self._tidy()

    def _drop(self, limit_bytes: int) -> None:
        while self.size > limit_bytes and self._dropped < len(self._records):
            self._drop_one()
        self._tidy()

    def _drop_one(self) -> None:
        record = self._records[self._dropped]
        self.start = record.offset + 1
        self.size -= len(record.body) + _OVERHEAD_BYTES
        self._dropped += 1

    def _tidy(self) -> None:
        """Dropped records leave the list in large steps, since that moves all that remain."""
        if self._dropped > 512 and self._dropped * 4 > len(self._records):
            del self._records[: self._dropped]
            self._dropped = 0
