"""Reading `ledger.db` while the broker runs or when it does not, with read access to the files and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from broker.adapters.sqlite.failure import reported
from broker.adapters.sqlite.files import connect_beside
from broker.adapters.sqlite.ledger_rows import (
    SCHEMA,
    find_end,
    find_instances,
    read_checkpoints,
    read_page,
)
from broker.errors import StorageUnavailable
from broker.model.ledger import ReadEntries, ReadPoint, StoredCheckpoint

T = TypeVar("T")


class SqliteLedgerReader:
    """Implements the LedgerReader port. Each look has a connection of its own, so none holds the broker's log back."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @classmethod
    async def open(cls, path: Path) -> SqliteLedgerReader:
        """Of the database file at `path`. Raises StorageUnavailable: absent, not readable, of another schema."""
        reader = cls(path)
        await reader._look(partial(_check_schema, path=path))
        return reader

    async def instances(self) -> Sequence[str]:
        """See LedgerReader."""
        return await self._look(find_instances)

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """See LedgerReader."""
        end = await self._look(find_end)
        while page := await self._look(partial(read_page, instance=instance, point=point, end=end)):
            yield page
            point = page.next

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """See LedgerReader."""
        while True:
            found, place = await self._look(partial(read_checkpoints, instance=instance, place=place))
            if not found:
                return
            for checkpoint in found:
                yield checkpoint

    async def close(self) -> None:
        """See LedgerReader; nothing stays open."""

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with reported(self._path), closing(connect_beside(self._path)) as connection:
            return work(connection)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != SCHEMA.version:
        raise StorageUnavailable(
            f"{path} has schema {found} and this version reads {SCHEMA.version}; read it with the version that wrote it"
        )
