"""Reading `records.db` while the broker runs or when it does not, with read access to the files and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from broker.adapters.sqlite import record_rows as rows
from broker.adapters.sqlite.failure import reported
from broker.adapters.sqlite.files import connect_beside
from broker.adapters.sqlite.record_rows import Span, TopicRow
from broker.errors import PositionExpired, StorageUnavailable
from broker.model.record import StoredRecord

T = TypeVar("T")

_RECORDS, _BYTES = 1_000, 8 << 20


class SqliteRecordReader:
    """Implements the StoredRecords port. Each look has a connection of its own, so none holds the broker's log back."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @classmethod
    async def open(cls, path: Path) -> SqliteRecordReader:
        """Of the database file at `path`. Raises StorageUnavailable: absent, not readable, of another schema."""
        reader = cls(path)
        await reader._look(partial(_check_schema, path=path))
        return reader

    async def read(self, topic: str) -> AsyncIterator[Sequence[StoredRecord]]:
        """See StoredRecords; what retention drops meanwhile is left out."""
        found = await self._look(partial(_extent, name=topic))
        if found is None:
            return
        row, spans = found
        for span in spans:
            begin = span.begin
            while begin < span.end:
                rest = Span(span.partition, begin, span.end)
                try:
                    records = await self._look(partial(_part, topic=row, span=rest))
                except PositionExpired as expired:
                    begin = max(begin, expired.earliest[span.partition])
                    continue
                yield records
                begin = records[-1].offset + 1

    async def close(self) -> None:
        """See StoredRecords; nothing stays open."""

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with reported(self._path), closing(connect_beside(self._path)) as connection:
            return work(connection)


def _extent(connection: sqlite3.Connection, name: str) -> tuple[TopicRow, list[Span]] | None:
    """The topic, and what each of its partitions holds now; None if it is not there."""
    row = rows.load_topic(connection, name)
    if row is None:
        return None
    starts = rows.start_positions(connection, row)
    ends = [rows.tail(connection, row, partition)[0] for partition in range(row.topic.partitions)]
    return row, [Span(n, start, end) for n, (start, end) in enumerate(zip(starts, ends, strict=True))]


def _part(connection: sqlite3.Connection, topic: TopicRow, span: Span) -> list[StoredRecord]:
    return rows.read(connection, topic, [span], _RECORDS, _BYTES)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != rows.SCHEMA.version:
        raise StorageUnavailable(
            f"{path} has schema {found} and this version reads {rows.SCHEMA.version};"
            " read it with the version that wrote it"
        )
