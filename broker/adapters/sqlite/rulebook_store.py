"""Revisions of the rulebook on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.model.rulebook import Revision, revision_id

_SCHEMA = Schema(
    version=2,
    sql="""
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time_dependent INTEGER NOT NULL CHECK (time_dependent IN (0, 1))
) STRICT;
CREATE TABLE files (
    revision INTEGER NOT NULL REFERENCES revisions (number),
    path TEXT NOT NULL,
    content BLOB NOT NULL,
    UNIQUE (revision, path)
) STRICT;
CREATE TABLE manifests (
    number INTEGER PRIMARY KEY,
    revision TEXT NOT NULL,
    note BLOB NOT NULL,
    UNIQUE (revision, note)
) STRICT;
""",
)


class SqliteRulebookStore:
    """The RulebookStore port on `rulebooks.db`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, directory: Path, *, max_bytes: int | None = None) -> SqliteRulebookStore:
        """Open or create the store in a data directory, for this process alone.

        max_bytes: the most that the database file may take, without its write-ahead log. Raises StorageUnavailable.
        """
        return cls(await Database.open(directory / "rulebooks.db", _SCHEMA, max_bytes))

    async def put(self, revision: Revision) -> None:
        """See RulebookStore."""
        if revision.id != await asyncio.to_thread(revision_id, revision.files):
            raise ValueError(
                f"'{revision.id}' is not the hash of the revision's files; compute it with revision_id"
            )
        await self._database.write(partial(_put, revision=revision))

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookStore."""
        return await self._database.read(partial(read_revision, wanted=revision_id))

    async def list(self) -> Sequence[str]:
        """See RulebookStore."""
        return await self._database.read(list_revisions)

    async def put_manifest(self, revision_id: str, note: bytes) -> None:
        """See RulebookStore."""
        await self._database.write(partial(_put_manifest, revision=revision_id, note=note))

    async def manifests(self, revision_id: str) -> Sequence[bytes]:
        """See RulebookStore."""
        return await self._database.read(partial(_manifests, revision=revision_id))

    async def close(self) -> None:
        """See RulebookStore."""
        await self._database.close()


def _put(connection: sqlite3.Connection, revision: Revision) -> None:
    new = connection.execute(
        "INSERT INTO revisions (id, time_dependent) VALUES (?, ?) ON CONFLICT (id) DO NOTHING RETURNING number",
        (revision.id, int(revision.time_dependent)),
    ).fetchone()
    if new is not None:
        connection.executemany(
            "INSERT INTO files (revision, path, content) VALUES (?, ?, ?)",
            [(new[0], path, content) for path, content in revision.files.items()],
        )


def _put_manifest(connection: sqlite3.Connection, revision: str, note: bytes) -> None:
    connection.execute(
        "INSERT INTO manifests (revision, note) VALUES (?, ?) ON CONFLICT (revision, note) DO NOTHING",
        (revision, note),
    )


def _manifests(connection: sqlite3.Connection, revision: str) -> list[bytes]:
    found = connection.execute("SELECT note FROM manifests WHERE revision = ? ORDER BY number", (revision,))
    return [note for (note,) in found.fetchall()]


def read_revision(connection: sqlite3.Connection, wanted: str) -> Revision | None:
    """The revision, or None. Raises ValueError if what is stored does not match the id."""
    found = connection.execute(
        "SELECT number, time_dependent FROM revisions WHERE id = ?", (wanted,)
    ).fetchone()
    if found is None:
        return None
    number, time_dependent = found
    files = dict(
        connection.execute("SELECT path, content FROM files WHERE revision = ?", (number,)).fetchall()
    )
    if revision_id(files) != wanted:
        raise ValueError(
            f"the stored content of revision {wanted} does not match its id; restore it from a backup"
        )
    return Revision(wanted, files, bool(time_dependent))


def list_revisions(connection: sqlite3.Connection) -> list[str]:
    """Ids in the order in which they were first stored."""
    return [
        revision for (revision,) in connection.execute("SELECT id FROM revisions ORDER BY number").fetchall()
    ]
