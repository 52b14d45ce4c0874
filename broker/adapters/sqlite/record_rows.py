"""Records as rows: the statements of the record log, each run inside one of the database's threads.

A row's `place` is its partition's number and its offset in one integer, so that a partition is one range of the table and
a read is one sequential scan. Offsets have no gaps: rows go only from a partition's beginning.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from broker.adapters.sqlite.files import Schema
from broker.errors import PositionExpired
from broker.model.partition import partition_for
from broker.model.record import Appended, AppendResult, IdReused, LogTopic, NewRecord, Positions, StoredRecord

OFFSET_BITS = 40
_OFFSET = (1 << OFFSET_BITS) - 1
_NEVER_MS = -(1 << 62)

# peak_ms is the greatest recorded_ms of the partition so far. It never falls with the offset, so the first record at or
# after a time is found by bisection, although publishers' times may be out of order.
SCHEMA = Schema(
    version=1,
    sql="""
CREATE TABLE topics (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    incarnation BLOB NOT NULL CHECK (length(incarnation) = 16),
    retention_s INTEGER
) STRICT;
CREATE TABLE partitions (
    number INTEGER PRIMARY KEY CHECK (number BETWEEN 0 AND 4194303),
    topic INTEGER NOT NULL REFERENCES topics (number),
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) STRICT;
CREATE TABLE records (
    place INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    identity BLOB NOT NULL,
    digest BLOB NOT NULL,
    recorded_ms INTEGER NOT NULL,
    peak_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (topic, identity)
) STRICT;
""",
)


@dataclass(frozen=True, slots=True)
class TopicRow:
    """A topic as it is stored: its row's number and its first partition's; the other partitions follow."""

    topic: LogTopic
    number: int
    first_partition: int

    def place(self, partition: int, offset: int) -> int:
        """The key of a record's row."""
        return (self.first_partition + partition) << OFFSET_BITS | offset


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets `begin` … `end` - 1 of one partition."""

    partition: int
    begin: int
    end: int


def topic_names(connection: sqlite3.Connection) -> list[str]:
    """All stored topics."""
    return [name for (name,) in connection.execute("SELECT name FROM topics").fetchall()]


def load_topic(connection: sqlite3.Connection, name: str) -> TopicRow | None:
    """The stored topic, or None."""
    found = connection.execute(
        "SELECT t.number, t.incarnation, min(p.number), count(*) FROM topics t JOIN partitions p ON p.topic = t.number"
        " WHERE t.name = ? GROUP BY t.number",
        (name,),
    ).fetchone()
    if found is None:
        return None
    number, incarnation, first, partitions = found
    return TopicRow(LogTopic(name, partitions, incarnation), number, first)


def create_topic(connection: sqlite3.Connection, name: str, partitions: int, incarnation: bytes) -> TopicRow:
    """Store a new topic, without retention, with partitions of consecutive numbers."""
    number = connection.execute(
        "INSERT INTO topics (name, incarnation) VALUES (?, ?) RETURNING number", (name, incarnation)
    ).fetchone()[0]
    (first,) = connection.execute("SELECT coalesce(max(number) + 1, 0) FROM partitions").fetchone()
    connection.executemany(
        "INSERT INTO partitions (number, topic, partition) VALUES (?, ?, ?)",
        [(first + partition, number, partition) for partition in range(partitions)],
    )
    return TopicRow(LogTopic(name, partitions, incarnation), number, first)


def set_retention(connection: sqlite3.Connection, topic: TopicRow, retention_s: int | None) -> None:
    """Store how long records are kept."""
    connection.execute("UPDATE topics SET retention_s = ? WHERE number = ?", (retention_s, topic.number))


def start_positions(connection: sqlite3.Connection, topic: TopicRow) -> Positions:
    """The earliest retained offset of each partition."""
    rows = connection.execute(
        "SELECT start_offset FROM partitions WHERE topic = ? ORDER BY partition", (topic.number,)
    )
    return tuple(start for (start,) in rows.fetchall())


def tail(connection: sqlite3.Connection, topic: TopicRow, partition: int) -> tuple[int, int]:
    """The partition's next offset, and the greatest recorded_ms that it holds."""
    last = connection.execute(
        "SELECT place, peak_ms FROM records WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
        (topic.place(partition, 0), topic.place(partition, _OFFSET)),
    ).fetchone()
    if last is not None:
        return (last[0] & _OFFSET) + 1, last[1]
    return start_positions(connection, topic)[partition], _NEVER_MS


def append(
    connection: sqlite3.Connection, topic: TopicRow, records: Sequence[NewRecord]
) -> list[AppendResult]:
    """Store records in order; see RecordLog.append."""
    tails: dict[int, tuple[int, int]] = {}
    results: list[AppendResult] = []
    for record in records:
        partition = partition_for(record.partition_key, topic.topic.partitions)
        offset, peak_ms = tails.get(partition) or tail(connection, topic, partition)
        peak_ms = max(peak_ms, record.recorded_ms)
        if _insert(connection, topic, topic.place(partition, offset), peak_ms, record):
            results.append(Appended(partition, offset))
            tails[partition] = offset + 1, peak_ms
        else:
            results.append(_known(connection, topic, record))
    return results


def _insert(
    connection: sqlite3.Connection, topic: TopicRow, place: int, peak_ms: int, record: NewRecord
) -> bool:
    """Store one record; False if its identity is known."""
    inserted = connection.execute(
        "INSERT INTO records (place, topic, identity, digest, recorded_ms, peak_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (topic, identity) DO NOTHING",
        (place, topic.number, record.identity, record.digest, record.recorded_ms, peak_ms, record.body),
    )
    return inserted.rowcount == 1


def _known(connection: sqlite3.Connection, topic: TopicRow, record: NewRecord) -> AppendResult:
    """What a record whose identity is known comes to."""
    place, digest = connection.execute(
        "SELECT place, digest FROM records WHERE topic = ? AND identity = ?", (topic.number, record.identity)
    ).fetchone()
    if digest != record.digest:
        return IdReused()
    return Appended((place >> OFFSET_BITS) - topic.first_partition, place & _OFFSET, duplicate=True)


def read(
    connection: sqlite3.Connection, topic: TopicRow, spans: Sequence[Span], max_records: int, max_bytes: int
) -> list[StoredRecord]:
    """Records from the beginning of each span on, at least one.

    What is left of both limits is shared evenly by the spans that are left. A record larger than `max_bytes` comes alone.
    Raises PositionExpired if a span's beginning was dropped meanwhile.
    """
    found: list[StoredRecord] = []
    left_bytes = max_bytes
    for index, span in enumerate(spans):
        waiting = len(spans) - index
        share = max(1, (max_records - len(found)) // waiting)
        taken = _read_span(connection, topic, span, share, left_bytes, left_bytes // waiting, not found)
        found.extend(taken)
        left_bytes -= sum(len(record.body) for record in taken)
        if len(found) >= max_records or left_bytes <= 0:
            break
    return found


def _read_span(
    connection: sqlite3.Connection,
    topic: TopicRow,
    span: Span,
    max_records: int,
    left_bytes: int,
    share_bytes: int,
    at_least_one: bool,
) -> list[StoredRecord]:
    """The span's first records: within its share, but the first one may use all that is left, or more if it must be."""
    found: list[StoredRecord] = []
    used_bytes = 0
    rows = connection.execute(
        "SELECT place, recorded_ms, body FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        (topic.place(span.partition, span.begin), topic.place(span.partition, span.end), max_records),
    )
    # An open cursor would hold back the checkpoints of the write-ahead log.
    with closing(rows):
        for place, recorded_ms, body in rows:
            used_bytes += len(body)
            if used_bytes > (share_bytes if found else left_bytes) and (found or not at_least_one):
                return found
            found.append(StoredRecord(span.partition, place & _OFFSET, recorded_ms, body))
    if not found or found[0].offset != span.begin:
        raise PositionExpired(start_positions(connection, topic))
    return found


def first_at(connection: sqlite3.Connection, topic: TopicRow, span: Span, time_ms: int) -> int:
    """The span's first offset whose recorded_ms is at or after `time_ms`, else its end."""
    low, high = span.begin, span.end
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            "SELECT peak_ms FROM records WHERE place = ?", (topic.place(span.partition, middle),)
        ).fetchone()
        if found is None or found[0] < time_ms:  # None: dropped meanwhile, so all before it are too
            low = middle + 1
        else:
            high = middle
    return low


def retention_cutoffs(connection: sqlite3.Connection, now_ms: int) -> dict[str, int]:
    """For each topic with a retention the time before which its records are to go."""
    rows = connection.execute("SELECT name, retention_s FROM topics WHERE retention_s IS NOT NULL")
    return {name: now_ms - retention_s * 1000 for name, retention_s in rows.fetchall()}


def drop(connection: sqlite3.Connection, topic: TopicRow, span: Span) -> Positions:
    """Delete a span at the beginning of its partition and return where the topic's partitions begin now."""
    connection.execute(
        "DELETE FROM records WHERE place >= ? AND place < ?",
        (topic.place(span.partition, span.begin), topic.place(span.partition, span.end)),
    )
    connection.execute(
        "UPDATE partitions SET start_offset = max(start_offset, ?) WHERE number = ?",
        (span.end, topic.first_partition + span.partition),
    )
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return start_positions(connection, topic)
