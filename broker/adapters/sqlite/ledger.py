"""The ledger's log on SQLite: `ledger.db`, which the broker's process alone writes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.ledger_rows import (
    SCHEMA,
    find_end,
    find_instances,
    read_checkpoints,
    read_page,
)
from broker.core.ledger.heading import read_heading
from broker.errors import LedgerFenced
from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint, StoredCheckpoint

_Row = tuple[str, int, int, bytes, bytes]


class SqliteLedgerLog:
    """Implements the LedgerLog port on a database that several instances may share, though only one process has it open."""

    def __init__(self, database: Database, instance: str) -> None:
        self._database = database
        self._instance = instance
        self._epoch: int | None = None

    @classmethod
    async def open(
        cls, directory: Path, instance: str = "broker", *, max_bytes: int | None = None
    ) -> SqliteLedgerLog:
        """Open or create the ledger in a data directory, for this process alone.

        max_bytes: the most that the database file may take, without its write-ahead log. Raises StorageUnavailable.
        """
        return cls(await Database.open(directory / "ledger.db", SCHEMA, max_bytes), instance)

    async def instances(self) -> Sequence[str]:
        """See LedgerReader."""
        return await self._database.read(find_instances)

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """See LedgerReader."""
        end = await self._database.read(find_end)
        while page := await self._database.read(partial(read_page, instance=instance, point=point, end=end)):
            yield page
            point = page.next

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """See LedgerReader."""
        while True:
            found, place = await self._database.read(
                partial(read_checkpoints, instance=instance, place=place)
            )
            if not found:
                return
            for checkpoint in found:
                yield checkpoint

    async def claim(self) -> int:
        """See LedgerLog."""
        self._epoch = await self._database.write(partial(_claim, instance=self._instance))
        return self._epoch

    async def fence(self, instance: str, epoch: int) -> None:
        """See LedgerFence."""
        await self._database.write(partial(_fence, instance=instance, epoch=epoch))

    async def append(self, entries: Sequence[EncodedEntry]) -> None:
        """See LedgerLog. Raises ValueError for an entry whose leaf tells no index and time."""
        if self._epoch is None:
            raise RuntimeError("claim() comes before append()")
        rows = [_row(self._instance, entry) for entry in entries]
        await self._database.write(partial(_append, instance=self._instance, epoch=self._epoch, rows=rows))

    async def put_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """See LedgerLog."""
        row = (self._instance, checkpoint.note, b"".join(checkpoint.frontier))
        await self._database.write(partial(_put_checkpoint, row=row))

    async def expire(self, before_ms: int) -> None:
        """See LedgerLog. The space is used again, and what is deleted is overwritten."""
        await self._database.write(partial(_expire, instance=self._instance, before_ms=before_ms))

    async def close(self) -> None:
        """See LedgerReader."""
        await self._database.close()


def _row(instance: str, entry: EncodedEntry) -> _Row:
    heading = read_heading(entry.leaf)
    if heading is None:
        raise ValueError("an entry's leaf has no heading")
    return instance, heading.index, heading.time_ms, entry.leaf, entry.openings


def _newest_claim(connection: sqlite3.Connection, instance: str) -> int:
    found = connection.execute("SELECT coalesce(max(epoch), 0) FROM claims WHERE instance = ?", (instance,))
    return int(found.fetchone()[0])


def _claim(connection: sqlite3.Connection, instance: str) -> int:
    epoch = _newest_claim(connection, instance) + 1
    connection.execute("INSERT INTO claims (instance, epoch) VALUES (?, ?)", (instance, epoch))
    return epoch


def _fence(connection: sqlite3.Connection, instance: str, epoch: int) -> None:
    if 0 < _newest_claim(connection, instance) <= epoch:
        connection.execute("INSERT INTO claims (instance, epoch) VALUES (?, ?)", (instance, epoch + 1))


def _append(connection: sqlite3.Connection, instance: str, epoch: int, rows: Sequence[_Row]) -> None:
    if _newest_claim(connection, instance) != epoch:
        raise LedgerFenced(f"another writer has taken over the ledger '{instance}', and this one stops")
    connection.executemany(
        "INSERT INTO entries (instance, number, time_ms, leaf, openings) VALUES (?, ?, ?, ?, ?)", rows
    )


def _put_checkpoint(connection: sqlite3.Connection, row: tuple[str, bytes, bytes]) -> None:
    connection.execute("INSERT INTO checkpoints (instance, note, frontier) VALUES (?, ?, ?)", row)


def _expire(connection: sqlite3.Connection, instance: str, before_ms: int) -> None:
    """Deletes from the beginning up to the first entry that is young enough: a clock that stepped leaves no holes."""
    newest = connection.execute(
        "SELECT place FROM entries WHERE instance = ? ORDER BY number DESC LIMIT 1", (instance,)
    ).fetchone()
    if newest is None:
        return
    kept = connection.execute(
        "SELECT place FROM entries WHERE +instance = ? AND time_ms >= ? ORDER BY place LIMIT 1",
        (instance, before_ms),
    ).fetchone()
    (before,) = kept or newest
    connection.execute(
        "INSERT INTO expired (instance, before) VALUES (?, ?)"
        " ON CONFLICT (instance) DO UPDATE SET before = max(before, excluded.before)",
        (instance, before),
    )
    connection.execute("DELETE FROM entries WHERE instance = ? AND place < ?", (instance, before))
