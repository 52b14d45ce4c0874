"""One database file: an exclusive owner, one writing thread, a few reading threads."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import TypeVar, cast

from broker.adapters.sqlite.failure import reported
from broker.adapters.sqlite.files import Schema, connect_reader, connect_writer, lock
from broker.adapters.sqlite.writer import Writer
from broker.errors import StorageUnavailable

T = TypeVar("T")

_READERS = 4


class Database:
    """A file that this process alone uses. Its methods belong to the event loop that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_descriptor: int) -> None:
        self.path = path
        self._lock_descriptor: int | None = lock_descriptor
        self._writer = Writer(connection, path)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix=f"sqlite-reader-{path.name}")
        self._reader = local()
        self._connections: list[sqlite3.Connection] = []

    @classmethod
    async def open(cls, path: Path, schema: Schema, max_bytes: int | None = None) -> Database:
        """Open or create the file, in a directory that is created if it is absent.

        Raises StorageUnavailable: in use by another process, of another schema, damaged, or not accessible.
        """
        descriptor = await asyncio.to_thread(lock, path)
        try:
            connection = await asyncio.to_thread(connect_writer, path, schema, max_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, connection, descriptor)

    async def write(
        self, work: Callable[[sqlite3.Connection], T], committed: Callable[[T], None] | None = None
    ) -> T:
        """See Writer.write."""
        callback = cast("Callable[[object], None] | None", committed)
        return cast("T", await self._writer.write(work, callback))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which leaves no cursor open, on a reading connection in a thread. Raises StorageUnavailable."""
        if self._lock_descriptor is None:
            raise StorageUnavailable(f"{self.path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work)

    async def close(self) -> None:
        """Finish all that runs and close the file; idempotent."""
        if self._lock_descriptor is None:
            return
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        # Last, because the last connection of a file checkpoints and removes its write-ahead log.
        await self._writer.close()
        os.close(descriptor)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with reported(self.path):
            connection: sqlite3.Connection | None = getattr(self._reader, "connection", None)
            if connection is None:
                connection = connect_reader(self.path)
                self._connections.append(connection)
                self._reader.connection = connection
            return work(connection)
