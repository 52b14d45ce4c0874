"""The control log on SQLite: `control.db`, of which the broker's process is the only user, and so the only instance."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.core.control.encoding import decode, encode_beat, encode_event
from broker.core.control.seal import ControlSeal
from broker.errors import StorageUnavailable
from broker.model.control import Beat, ControlEvent, Heard

_SCHEMA = Schema(
    version=1,
    sql="""
CREATE TABLE entries (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    beats TEXT UNIQUE,
    content BLOB NOT NULL
) STRICT;
""",
)


class SqliteControlLog:
    """Implements the ControlLog port; belongs to the event loop that opened it."""

    def __init__(self, database: Database, seal: ControlSeal) -> None:
        self._database = database
        self._seal = seal
        self._heard: Callable[[Sequence[Heard]], None] = lambda _: None

    @classmethod
    async def open(cls, directory: Path, seal: ControlSeal) -> SqliteControlLog:
        """Open or create the log in a data directory, for this process alone. Raises StorageUnavailable."""
        return cls(await Database.open(directory / "control.db", _SCHEMA), seal)

    async def append(self, event: ControlEvent) -> int:
        """See ControlLog; an event that was not confirmed is not stored. Raises ValueError for one that is too large."""
        return await self._put(event, None, encode_event(event))

    async def beat(self, beat: Beat) -> None:
        """See ControlLog."""
        await self._put(beat, beat.instance, encode_beat(beat))

    async def follow(self, heard: Callable[[Sequence[Heard]], None], lost: Callable[[], None]) -> None:
        """See ControlLog. Nothing is ever lost here but with the whole file."""

        def begin(stored: list[Heard]) -> None:
            self._heard = heard
            heard(stored)

        # Read by the thread that writes: whatever it commits afterwards is handed over afterwards.
        await self._database.write(partial(_read_all, path=self._database.path, seal=self._seal), begin)

    async def close(self) -> None:
        """See ControlLog."""
        await self._database.close()

    async def _put(self, content: ControlEvent | Beat, beats: str | None, encoded: bytes) -> int:
        return await self._database.write(
            partial(_put, beats=beats, encoded=self._seal.seal(encoded)),
            lambda position: self._heard([Heard(position, content)]),
        )


def _put(connection: sqlite3.Connection, beats: str | None, encoded: bytes) -> int:
    """Of an instance's beats the newest is kept."""
    if beats is not None:
        connection.execute("DELETE FROM entries WHERE beats = ?", (beats,))
    cursor = connection.execute("INSERT INTO entries (beats, content) VALUES (?, ?)", (beats, encoded))
    return int(cursor.lastrowid or 0)


def _read_all(connection: sqlite3.Connection, path: Path, seal: ControlSeal) -> list[Heard]:
    rows = connection.execute("SELECT position, content FROM entries ORDER BY position").fetchall()
    try:
        return [Heard(position, decode(seal.open(content))) for position, content in rows]
    except ValueError as error:
        raise StorageUnavailable(f"{path} cannot be read: {error}; restore it from a backup") from error
