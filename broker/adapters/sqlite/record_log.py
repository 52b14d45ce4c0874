"""The record log on SQLite: exact duplicates, per-partition order, retention."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from broker.adapters.sqlite import record_rows as rows
from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.record_rows import Span, TopicRow
from broker.errors import PositionExpired, StorageUnavailable
from broker.model.record import Appended, AppendResult, Chunk, LogTopic, NewRecord, Positions, StoredRecord
from broker.model.registry import Topic
from broker.ports.clock import Clock

_log = logging.getLogger(__name__)

_DROPPED_AT_ONCE = 2_000
"""Records deleted in one transaction, so that appends wait for no longer than that takes."""


@dataclass(slots=True)
class _OpenTopic:
    """A topic in use. `starts` and `ends` show what is committed; `arrival` is set, and replaced, when more is."""

    row: TopicRow
    starts: list[int]
    ends: list[int]
    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    def note_appended(self, results: Sequence[AppendResult]) -> None:
        """Show committed records to readers, and wake those that wait."""
        for result in results:
            if isinstance(result, Appended) and not result.duplicate:
                self.ends[result.partition] = max(self.ends[result.partition], result.offset + 1)
        self.arrival.set()
        self.arrival = asyncio.Event()

    def note_dropped(self, starts: Positions) -> None:
        """Show where partitions begin after a committed deletion."""
        self.starts = list(starts)

    def pending(self, positions: Positions) -> list[Span]:
        """What lies at or after `positions`, in an order that changes with them, so that no partition is always last.

        Raises PositionExpired, and ValueError if there is not one position for each partition.
        """
        if len(positions) != len(self.ends):
            raise ValueError(
                f"{len(positions)} positions for topic '{self.row.topic.name}' of {len(self.ends)} partitions"
            )
        if any(position < start for position, start in zip(positions, self.starts, strict=True)):
            raise PositionExpired(tuple(self.starts))
        pairs = enumerate(zip(positions, self.ends, strict=True))
        spans = [Span(partition, begin, end) for partition, (begin, end) in pairs if begin < end]
        turn = zlib.crc32(repr(positions).encode()) % len(spans) if spans else 0
        return spans[turn:] + spans[:turn]


class SqliteRecordLog:
    """The RecordLog port on `records.db`. Identities are known as long as their records are retained."""

    def __init__(self, database: Database, topics: dict[str, _OpenTopic]) -> None:
        self._database = database
        self._topics = topics
        self._upkeep: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        max_bytes: int | None = None,
        clock: Clock | None = None,
        retention_interval_s: float = 60.0,
    ) -> SqliteRecordLog:
        """Open or create the log in a data directory, for this process alone.

        max_bytes: the most that the database file may take, without its write-ahead log.
        clock: if given, retention is enforced every `retention_interval_s` seconds by it.
        Raises StorageUnavailable.
        """
        database = await Database.open(directory / "records.db", rows.SCHEMA, max_bytes)
        try:
            log = cls(database, await database.read(_stored_topics))
        except BaseException:
            await database.close()
            raise
        if clock is not None:
            log._upkeep = asyncio.create_task(log._keep_retention(clock, retention_interval_s))
        return log

    async def open_topic(self, topic: Topic) -> LogTopic:
        """See RecordLog; a changed retention is taken over."""
        opened = await self._database.write(partial(_open_topic, topic=topic))
        present = self._topics.setdefault(topic.name, opened)
        return present.row.topic

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        """See RecordLog; calls that arrive together share one commit."""
        opened = self._opened(topic)
        if not records:
            return []
        work = partial(rows.append, topic=opened.row, records=tuple(records))
        return await self._database.write(work, opened.note_appended)

    async def read(
        self, topic: str, positions: Positions, *, max_records: int, max_bytes: int, wait_s: float
    ) -> Chunk:
        """See RecordLog."""
        opened = self._opened(topic)
        spans = await self._pending(opened, positions, wait_s)
        if not spans:
            return Chunk((), positions)
        work = partial(
            rows.read, topic=opened.row, spans=spans, max_records=max(1, max_records), max_bytes=max_bytes
        )
        found = await self._database.read(work)
        return Chunk(tuple(found), _following(positions, found))

    async def start_positions(self, topic: str) -> Positions:
        """See RecordLog."""
        return tuple(self._opened(topic).starts)

    async def end_positions(self, topic: str) -> Positions:
        """See RecordLog."""
        return tuple(self._opened(topic).ends)

    async def positions_at(self, topic: str, time_ms: int) -> Positions:
        """See RecordLog."""
        opened = self._opened(topic)
        work = partial(_firsts_at, topic=opened.row, spans=_whole(opened), time_ms=time_ms)
        return await self._database.read(work)

    async def enforce_retention(self, now_ms: int) -> int:
        """Drop, from each partition's beginning, what was recorded before `now_ms` minus the topic's retention.

        A record whose time is older than its predecessor's goes together with that one. Returns how many were dropped;
        raises StorageUnavailable.
        """
        cutoffs = await self._database.read(partial(rows.retention_cutoffs, now_ms=now_ms))
        dropped = 0
        for name, cutoff_ms in cutoffs.items():
            dropped += await self._drop_before(self._opened(name), await self.positions_at(name, cutoff_ms))
        return dropped

    async def close(self) -> None:
        """See RecordLog; reads that wait end with StorageUnavailable."""
        self._closed = True
        for opened in self._topics.values():
            opened.arrival.set()
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is not None:
            upkeep.cancel()
            await asyncio.wait([upkeep])
        await self._database.close()

    def _opened(self, topic: str) -> _OpenTopic:
        self._require_open()
        opened = self._topics.get(topic)
        if opened is None:
            raise ValueError(f"topic '{topic}' was not opened; call open_topic first")
        return opened

    def _require_open(self) -> None:
        if self._closed:
            raise StorageUnavailable(f"{self._database.path} is closed")

    async def _pending(self, opened: _OpenTopic, positions: Positions, wait_s: float) -> list[Span]:
        """What there is to read; waits for something if there is nothing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not (spans := opened.pending(positions)) and (left_s := deadline - loop.time()) > 0:
            arrival = opened.arrival
            try:
                async with asyncio.timeout(left_s):
                    await arrival.wait()
            except TimeoutError:
                return opened.pending(positions)
            self._require_open()
        return spans

    async def _drop_before(self, opened: _OpenTopic, positions: Positions) -> int:
        dropped = 0
        for partition, end in enumerate(positions):
            while (begin := opened.starts[partition]) < end:
                span = Span(partition, begin, min(end, begin + _DROPPED_AT_ONCE))
                work = partial(rows.drop, topic=opened.row, span=span)
                await self._database.write(work, opened.note_dropped)
                dropped += span.end - span.begin
        return dropped

    async def _keep_retention(self, clock: Clock, interval_s: float) -> None:
        while True:
            try:
                dropped = await self.enforce_retention(clock.now_ms())
                _log.debug("retention dropped %d records", dropped)
            except StorageUnavailable as error:
                _log.warning("retention is not enforced: %s", error)
            await asyncio.sleep(interval_s)


def _open_topic(connection: sqlite3.Connection, topic: Topic) -> _OpenTopic:
    """The stored topic, created if it is absent. Raises ValueError if it has another number of partitions."""
    if topic.partitions < 1:
        raise ValueError(f"topic '{topic.name}' needs at least one partition")
    row = rows.load_topic(connection, topic.name)
    if row is None:
        row = rows.create_topic(connection, topic.name, topic.partitions, secrets.token_bytes(16))
    if row.topic.partitions != topic.partitions:
        raise ValueError(
            f"topic '{topic.name}' is stored with {row.topic.partitions} partitions and cannot have"
            f" {topic.partitions}; restore the number, or choose a new topic name"
        )
    rows.set_retention(connection, row, topic.retention_s)
    return _present(connection, row)


def _present(connection: sqlite3.Connection, row: TopicRow) -> _OpenTopic:
    starts = rows.start_positions(connection, row)
    ends = [rows.tail(connection, row, partition)[0] for partition in range(row.topic.partitions)]
    return _OpenTopic(row, list(starts), ends)


def _stored_topics(connection: sqlite3.Connection) -> dict[str, _OpenTopic]:
    """All topics of the file: one that left the rulebook keeps its retention, or its records would stay for good."""
    loaded = ((name, rows.load_topic(connection, name)) for name in rows.topic_names(connection))
    return {name: _present(connection, row) for name, row in loaded if row is not None}


def _whole(opened: _OpenTopic) -> list[Span]:
    bounds = enumerate(zip(opened.starts, opened.ends, strict=True))
    return [Span(partition, start, end) for partition, (start, end) in bounds]


def _firsts_at(
    connection: sqlite3.Connection, topic: TopicRow, spans: Sequence[Span], time_ms: int
) -> Positions:
    return tuple(rows.first_at(connection, topic, span, time_ms) for span in spans)


def _following(positions: Positions, found: Sequence[StoredRecord]) -> Positions:
    following = list(positions)
    for record in found:
        following[record.partition] = record.offset + 1
    return tuple(following)
