"""The ledger on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import orjson

from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.model.ledger import LedgerEntry, StoredEntry

_PAGE_ENTRIES = 256

_SCHEMA = Schema(
    version=1,
    sql="""
CREATE TABLE entries (
    position INTEGER PRIMARY KEY CHECK (position >= 0),
    kind TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'entries are final'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'entries are final'); END;
""",
)

_Row = tuple[str, int, bytes]


class SqliteLedger:
    """The Ledger port on `ledger.db`; positions count from 0 without gaps. Bodies are JSON with sorted keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, directory: Path, *, max_bytes: int | None = None) -> SqliteLedger:
        """Open or create the ledger in a data directory, for this process alone.

        max_bytes: the most that the database file may take, without its write-ahead log. Raises StorageUnavailable.
        """
        return cls(await Database.open(directory / "ledger.db", _SCHEMA, max_bytes))

    async def append(self, entries: Sequence[LedgerEntry]) -> Sequence[int]:
        """See Ledger; calls that arrive together share one commit. Raises TypeError for a body that is not JSON."""
        if not entries:
            return []
        encoded = [(e.kind, e.time_ms, orjson.dumps(e.body, option=orjson.OPT_SORT_KEYS)) for e in entries]
        return await self._database.write(partial(_append, entries=encoded))

    async def read(self, from_position: int = 0) -> AsyncIterator[StoredEntry]:
        """See Ledger; the end is that of the moment when reading begins."""
        end = await self._database.read(_end)
        position = max(0, from_position)
        while position < end:
            page = await self._database.read(partial(_page, begin=position, end=end))
            for stored in page:
                yield stored
            position += _PAGE_ENTRIES

    async def close(self) -> None:
        """See Ledger."""
        await self._database.close()


def _end(connection: sqlite3.Connection) -> int:
    (end,) = connection.execute("SELECT coalesce(max(position) + 1, 0) FROM entries").fetchone()
    return int(end)


def _append(connection: sqlite3.Connection, entries: Sequence[_Row]) -> list[int]:
    first = _end(connection)
    connection.executemany(
        "INSERT INTO entries (position, kind, time_ms, body) VALUES (?, ?, ?, ?)",
        ((first + number, *row) for number, row in enumerate(entries)),
    )
    return list(range(first, first + len(entries)))


def _page(connection: sqlite3.Connection, begin: int, end: int) -> list[StoredEntry]:
    rows = connection.execute(
        "SELECT position, kind, time_ms, body FROM entries WHERE position >= ? AND position < ? ORDER BY position",
        (begin, min(end, begin + _PAGE_ENTRIES)),
    ).fetchall()
    return [
        StoredEntry(position, LedgerEntry(kind, ms, orjson.loads(body))) for position, kind, ms, body in rows
    ]
