"""The file of an index: one that this process extends, or an export's, which nobody changes any more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from broker.adapters.export.schema import SCHEMA
from broker.adapters.sqlite.failure import reported
from broker.errors import StorageUnavailable

T = TypeVar("T")

_CACHE_KIB = 32_768


class FinishedFile:
    """A database that is only read; it needs no write access to the file or its directory."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-reader-{path.name}")

    @classmethod
    async def open(cls, path: Path) -> FinishedFile:
        """Raises StorageUnavailable, also if its tables are defined otherwise: a view could answer whatever it likes."""
        return cls(path, await asyncio.to_thread(_connect_as_written, path))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a thread. Raises StorageUnavailable."""
        connection = self._connection
        if connection is None:
            raise StorageUnavailable(f"{self.path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, connection)

    async def close(self) -> None:
        """Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(self._thread.shutdown)
            connection.close()

    def _run(self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        with reported(self.path):
            return work(connection)


def connect_finished(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody writes. Raises StorageUnavailable, also for a file of another schema."""
    with reported(path):
        # `immutable` needs no lock and no write-ahead log beside the file, so an export can lie on a read-only medium.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except BaseException:
            connection.close()
            raise
    if version != SCHEMA.version:
        connection.close()
        raise StorageUnavailable(
            f"{path} has schema {version} and this version needs {SCHEMA.version}; export again"
        )
    return connection


def definitions(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """The tables, indexes and views of a database as they were defined."""
    return connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1, 2"
    ).fetchall()


def expected_definitions() -> list[tuple[str, str, str]]:
    """Those that the file of an index has."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA.sql)
        return definitions(connection)
    finally:
        connection.close()


def _connect_as_written(path: Path) -> sqlite3.Connection:
    connection = connect_finished(path)
    with reported(path):
        found = definitions(connection)
    if found != expected_definitions():
        connection.close()
        raise StorageUnavailable(f"{path}: its tables, indexes or views were changed; export again")
    return connection


def finish(path: Path) -> None:
    """Make a database that was written here a file of its own: no write-ahead log, no lock beside it."""
    with reported(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("ANALYZE")
        finally:
            connection.close()
        path.with_suffix(".lock").unlink(missing_ok=True)
