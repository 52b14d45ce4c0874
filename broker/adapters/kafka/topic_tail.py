"""What an instance knows of one topic's present: the newest records, the duplicates index, and what is being stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.adapters.kafka.duplicates import DuplicatesIndex, Known
from broker.adapters.kafka.ring import Ring
from broker.model.record import Chunk, LogTopic, NewRecord, Positions, StoredRecord

Fingerprint = tuple[bytes, bytes]
"""A stored record's identity and digest, 16 bytes each."""

Arrival = tuple[StoredRecord, Fingerprint | None]
"""A record that the tail read; without a fingerprint if the index has it already or the body has none."""


@dataclass(slots=True)
class Parcel:
    """The new records of one append for one partition, until their fate is known.

    `stored` gives their offsets once they are durable and indexed, else fails with StorageUnavailable.
    """

    partition: int
    stored: asyncio.Future[list[int]]
    records: list[NewRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InFlight:
    """Where a record that is being stored will stand."""

    parcel: Parcel
    index: int
    digest: bytes


class TopicTail:
    """State of one open topic; belongs to the event loop (the tail's thread only reads ends)."""

    def __init__(
        self, info: LogTopic, kafka_name: str, begin: Positions, starts: Positions, *, index_records: int
    ) -> None:
        self.info = info
        self.kafka_name = kafka_name
        self.rings = [Ring(offset) for offset in begin]
        self.log_starts = starts
        self.ring_limit_bytes = 0
        self.in_flight: dict[bytes, InFlight] = {}
        self.gone = False
        self._index = DuplicatesIndex(index_records)
        self._waiting: set[asyncio.Future[None]] = set()
        self._first = 0

    def known(self, identity: bytes) -> Known | None:
        """A stored and still retained record of this identity."""
        found = self._index.get(identity)
        if found is not None and found.offset < self.log_starts[found.partition]:
            self._index.forget(identity)
            return None
        return found

    def arrive(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Take what the tail read of a partition."""
        for record, fingerprint in arrivals:
            if fingerprint is not None:
                self._index.add(*fingerprint, partition, record.offset)
        self.rings[partition].append([record for record, _ in arrivals], self.ring_limit_bytes)
        self.wake()

    def settle(self, parcel: Parcel, offsets: Sequence[int]) -> None:
        """Index what was stored; put it into memory at once unless others wrote in between (then the tail brings it)."""
        for record, offset in zip(parcel.records, offsets, strict=True):
            self._index.add(record.identity, record.digest, parcel.partition, offset)
        ring = self.rings[parcel.partition]
        if offsets[0] == ring.end and offsets[-1] - offsets[0] == len(offsets) - 1:
            stored = [
                StoredRecord(parcel.partition, offset, record.recorded_ms, record.body)
                for record, offset in zip(parcel.records, offsets, strict=True)
            ]
            ring.append(stored, self.ring_limit_bytes)
            self.wake()

    def forget_flight(self, parcel: Parcel) -> None:
        """The parcel's fate is known."""
        for record in parcel.records:
            self.in_flight.pop(record.identity, None)

    def retain_from(self, starts: Positions) -> None:
        """Learn where each partition begins now, and drop what lies before."""
        self.log_starts = starts
        for ring, start in zip(self.rings, starts, strict=True):
            ring.forget_before(start)

    def is_expired(self, positions: Positions) -> bool:
        """Whether one lies below what is known to be retained."""
        return any(position < start for position, start in zip(positions, self.log_starts, strict=True))

    def covers(self, positions: Positions) -> bool:
        """Whether memory holds all that follows these positions."""
        return all(position >= ring.start for position, ring in zip(positions, self.rings, strict=True))

    def reached(self, ends: Positions) -> bool:
        """Whether the tail has read up to these offsets."""
        return all(ring.end >= end for ring, end in zip(self.rings, ends, strict=True))

    def take(self, positions: Positions, max_records: int, max_bytes: int) -> Chunk:
        """Records from memory, another partition first each time so that none starves."""
        self._first = (self._first + 1) % len(self.rings)
        taken: list[StoredRecord] = []
        following = list(positions)
        for step in range(len(self.rings)):
            partition = (self._first + step) % len(self.rings)
            records = self.rings[partition].since(positions[partition], max_records - len(taken), max_bytes)
            if records and taken and len(records[0].body) > max_bytes:
                continue
            taken.extend(records)
            max_bytes -= sum(len(record.body) for record in records)
            following[partition] = records[-1].offset + 1 if records else positions[partition]
            if len(taken) == max_records:
                break
        return Chunk(tuple(taken), tuple(following))

    async def news(self, timeout_s: float) -> None:
        """Return at the next change, or after the time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            self._waiting.discard(waiter)

    def wake(self) -> None:
        """Let all go on who wait for news."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
