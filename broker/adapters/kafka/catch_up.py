"""Readers for positions that lie before the tail's memory: a small pool, each with a consumer thread that reads ahead.

A reader remembers where its last chunk ended. A caller that goes on from there gets the same reader, whose next records
wait in memory already; so one that catches up streams at the consumer's full speed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange, Place
from broker.errors import StorageUnavailable
from broker.model.record import Chunk, Positions, StoredRecord

_ANSWER_TIMEOUT_S = 10.0
_IDLE_S = 30.0


class OutOfRetention(Exception):
    """A position is below what the log retains."""


class _Reader:
    """One consumer, its position on one topic, and what it has read ahead."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._follower = Follower[StoredRecord](
            connection,
            to_records,
            self._deliver,
            name="catch-up",
            prefetch_bytes=16 * 1024 * 1024,
            poll_records=2_000,
        )
        self.topic = ""
        self.positions: Positions = ()
        self.busy = False
        self.used_at = time.monotonic()
        self._started = False
        self._ahead: deque[Batch[StoredRecord]] = deque()
        self._begin = 0
        self._out_of_range = False
        self._arrived = asyncio.Event()

    async def start(self) -> None:
        """Connect, the first time; raises StorageUnavailable if the cluster cannot be reached."""
        if not self._started:
            self._started = True
            await self._follower.start()

    async def close(self) -> None:
        await self._follower.close()

    def seek(self, topic: str, positions: Positions) -> None:
        """Leave whatever it read and go to these positions, unless it is there."""
        if (topic, positions) == (self.topic, self.positions) and not self._out_of_range:
            return
        self.topic, self.positions = topic, positions
        self._ahead.clear()
        self._begin = 0
        self._out_of_range = False
        places = {(topic, number): offset for number, offset in enumerate(positions)}
        self._follower.follow(places, replace=True)

    async def read(self, max_records: int, max_bytes: int) -> Chunk:
        """The next records; raises StorageUnavailable if none come, OutOfRetention if they are gone."""
        give_up_at = time.monotonic() + _ANSWER_TIMEOUT_S
        while not self._ahead:
            if self._out_of_range:
                raise OutOfRetention
            self._arrived.clear()
            try:
                async with asyncio.timeout(give_up_at - time.monotonic()):
                    await self._arrived.wait()
            except TimeoutError as error:
                raise StorageUnavailable("Kafka sent no records; they are safe, read again") from error
        return self._take(max_records, max_bytes)

    def _take(self, max_records: int, max_bytes: int) -> Chunk:
        taken: list[StoredRecord] = []
        positions = list(self.positions)
        size = 0
        while self._ahead and len(taken) < max_records:
            batch = self._ahead[0]
            end, size, full = _cut(
                batch.items, self._begin, max_records - len(taken), max_bytes, size, not taken
            )
            if end > self._begin:
                taken.extend(batch.items[self._begin : end])
                positions[batch.place[1]] = taken[-1].offset + 1
            self._begin = end
            if full:
                break
            if end == len(batch.items):
                self._ahead.popleft()
                self._begin = 0
                self._follower.release(batch.size)
        self.positions = tuple(positions)
        return Chunk(tuple(taken), self.positions)

    def _deliver(self, news: Sequence[Batch[StoredRecord]] | OutOfRange) -> None:
        if isinstance(news, OutOfRange):
            self._out_of_range = True
        else:
            self._ahead.extend(news)
        self._arrived.set()


class CatchUpPool:
    """At most `size` readers; those that nobody used for a while are closed by `tidy`."""

    def __init__(self, connection: KafkaConnection, *, size: int = 4) -> None:
        self._connection = connection
        self._size = size
        self._readers: list[_Reader] = []
        self._freed = asyncio.Condition()
        self._closed = False

    async def read(self, topic: str, positions: Positions, max_records: int, max_bytes: int) -> Chunk:
        """Records from positions of which at least one lies before the end of its partition."""
        reader = await self._take(topic, positions)
        try:
            await self._start(reader)
            reader.seek(topic, positions)
            return await reader.read(max_records, max_bytes)
        finally:
            reader.busy = False
            reader.used_at = time.monotonic()
            async with self._freed:
                self._freed.notify()

    async def tidy(self) -> None:
        """Close readers that have been idle for half a minute."""
        idle = [r for r in self._readers if not r.busy and time.monotonic() - r.used_at > _IDLE_S]
        for reader in idle:
            self._readers.remove(reader)
        for reader in idle:
            await reader.close()

    async def close(self) -> None:
        """Close all readers; idempotent."""
        self._closed = True
        readers, self._readers = self._readers, []
        for reader in readers:
            await reader.close()

    async def _take(self, topic: str, positions: Positions) -> _Reader:
        async with self._freed:
            while True:
                if self._closed:
                    raise StorageUnavailable("the Kafka store is closed")
                reader = self._idle(topic, positions)
                if reader is not None:
                    reader.busy = True
                    return reader
                if len(self._readers) < self._size:
                    break
                await self._freed.wait()
            reader = _Reader(self._connection)
            reader.busy = True
            self._readers.append(reader)
        return reader

    def _idle(self, topic: str, positions: Positions) -> _Reader | None:
        """The idle reader that stands there already; else, if there may be no more, the one unused for longest."""
        idle = [reader for reader in self._readers if not reader.busy]
        for reader in idle:
            if (reader.topic, reader.positions) == (topic, positions):
                return reader
        if len(self._readers) < self._size or not idle:
            return None
        return min(idle, key=lambda reader: reader.used_at)

    async def _start(self, reader: _Reader) -> None:
        try:
            await reader.start()
        except BaseException:
            if reader in self._readers:
                self._readers.remove(reader)
            raise


def to_records(place: Place, records: Sequence[Any]) -> tuple[Sequence[StoredRecord], int]:
    """A consumer's messages of one partition as the port's records, and the bytes of their bodies."""
    partition = place[1]
    ours = [StoredRecord(partition, r.offset(), r.timestamp()[1], r.value() or b"") for r in records]
    return ours, sum(len(record.body) for record in ours)


def _cut(
    items: Sequence[StoredRecord], begin: int, room: int, max_bytes: int, size: int, first: bool
) -> tuple[int, int, bool]:
    """How far a chunk reaches into `items`: the end, the bytes so far, and whether the chunk is full."""
    end = begin
    last = min(len(items), begin + room)
    while end < last:
        grown = size + len(items[end].body)
        if grown > max_bytes and not (first and end == begin):
            return end, size, True
        size, end = grown, end + 1
    return end, size, False
