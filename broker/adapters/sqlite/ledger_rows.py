"""The tables of `ledger.db`, and what is read from them."""

from __future__ import annotations

import sqlite3

from broker.adapters.sqlite.files import Schema
from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint, StoredCheckpoint

SCHEMA = Schema(
    version=2,
    sql="""
CREATE TABLE claims (
    instance TEXT NOT NULL,
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    PRIMARY KEY (instance, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    place INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    time_ms INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    openings BLOB NOT NULL,
    UNIQUE (instance, number)
) STRICT;
CREATE TABLE checkpoints (
    place INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    note BLOB NOT NULL,
    frontier BLOB NOT NULL
) STRICT;
CREATE TABLE expired (
    instance TEXT PRIMARY KEY,
    before INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'entries are final'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
WHEN OLD.place >= coalesce((SELECT before FROM expired WHERE instance = OLD.instance), 0)
BEGIN SELECT raise(ABORT, 'entries are final'); END;
CREATE TRIGGER checkpoints_are_final BEFORE UPDATE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints are final'); END;
CREATE TRIGGER checkpoints_stay BEFORE DELETE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints are final'); END;
CREATE TRIGGER claims_are_final BEFORE UPDATE ON claims BEGIN SELECT raise(ABORT, 'claims are final'); END;
CREATE TRIGGER claims_stay BEFORE DELETE ON claims BEGIN SELECT raise(ABORT, 'claims are final'); END;
""",
)

_HASH_BYTES = 32
_PAGE_ROWS = 512
_PAGE_BYTES = 4 * 1024 * 1024


def find_instances(connection: sqlite3.Connection) -> list[str]:
    """All that ever claimed, sorted."""
    return [name for (name,) in connection.execute("SELECT DISTINCT instance FROM claims ORDER BY instance")]


def find_end(connection: sqlite3.Connection) -> int:
    """The place after the last entry of all instances."""
    (end,) = connection.execute("SELECT coalesce(max(place) + 1, 0) FROM entries").fetchone()
    return int(end)


def read_page(
    connection: sqlite3.Connection, instance: str, point: ReadPoint, end: int
) -> ReadEntries | None:
    """Some entries from a point on and before a place, or None if there are none."""
    # The unary plus keeps SQLite from walking the index, where each row would be looked up by itself.
    cursor = connection.execute(
        "SELECT place, number, leaf, openings FROM entries"
        " WHERE +instance = ? AND place >= ? AND place < ? ORDER BY place LIMIT ?",
        (instance, point.store, end, _PAGE_ROWS),
    )
    entries, size, last = [], 0, None
    for place, number, leaf, openings in cursor:
        entries.append(EncodedEntry(leaf, openings))
        last = place, number
        size += len(leaf) + len(openings)
        if size >= _PAGE_BYTES:
            break
    cursor.close()
    if last is None:
        return None
    # Nothing is ever voided here: an entry is stored only under the epoch that is in force.
    return ReadEntries(tuple(entries), ReadPoint(last[0] + 1, point.epoch, last[1] + 1))


def read_checkpoints(
    connection: sqlite3.Connection, instance: str, place: int
) -> tuple[list[StoredCheckpoint], int]:
    """Some checkpoints from a place on, and where reading goes on; none at the end."""
    rows = connection.execute(
        "SELECT place, note, frontier FROM checkpoints WHERE instance = ? AND place >= ? ORDER BY place LIMIT ?",
        (instance, place, _PAGE_ROWS),
    ).fetchall()
    found = [StoredCheckpoint(note, _split(frontier), at + 1) for at, note, frontier in rows]
    return found, rows[-1][0] + 1 if rows else place


def _split(frontier: bytes) -> tuple[bytes, ...]:
    return tuple(frontier[at : at + _HASH_BYTES] for at in range(0, len(frontier), _HASH_BYTES))
