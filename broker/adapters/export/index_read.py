"""Questions to an index: entries, checkpoints, coverage."""

from __future__ import annotations

import sqlite3

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.merkle.hashing import HASH_BYTES
from broker.model.audit import Coverage, EntryQuery, EntryRow
from broker.model.ledger import ReadPoint, StoredCheckpoint

_COLUMNS = "e.entry, e.epoch, e.kind, e.time_ms, e.leaf_hash, e.opened"


def find_number(connection: sqlite3.Connection, instance: str) -> int | None:
    """An instance's number, or None."""
    found = connection.execute("SELECT number FROM instances WHERE name = ?", (instance,)).fetchone()
    return None if found is None else int(found[0])


def read_coverage(connection: sqlite3.Connection) -> list[Coverage]:
    """See AuditIndex.coverage."""
    rows = connection.execute(
        "SELECT i.name, i.origin, i.first, i.next, f.time_ms, l.time_ms FROM instances i"  # noqa: S608 - a constant
        f" LEFT JOIN entries f ON f.entry = (i.number << {ENTRY_BITS}) + i.first"
        f" LEFT JOIN entries l ON l.entry = (i.number << {ENTRY_BITS}) + i.next - 1 AND i.next > i.first"
        " ORDER BY i.name"
    ).fetchall()
    return [Coverage(*row) for row in rows]


def read_point(connection: sqlite3.Connection, instance: str, index: int) -> ReadPoint:
    """See AuditIndex.point."""
    number = find_number(connection, instance)
    if number is None:
        return ReadPoint()
    base = number << ENTRY_BITS
    found = connection.execute(
        "SELECT entry, store, epoch FROM points WHERE entry >= ? AND entry <= ? ORDER BY entry DESC LIMIT 1",
        (base, base + index),
    ).fetchone()
    return ReadPoint() if found is None else ReadPoint(found[1], found[2], found[0] - base)


def read_entry(connection: sqlite3.Connection, instance: str, index: int) -> EntryRow | None:
    """See AuditIndex.entry."""
    number = find_number(connection, instance)
    if number is None or not 0 <= index < 1 << ENTRY_BITS:
        return None
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM entries e WHERE e.entry = ?",  # noqa: S608 - a constant
        ((number << ENTRY_BITS) + index,),
    ).fetchone()
    return None if row is None else _entry(row, instance, number)


def read_entries(connection: sqlite3.Connection, query: EntryQuery) -> list[EntryRow]:
    """See AuditIndex.entries."""
    number = find_number(connection, query.instance)
    if number is None:
        return []
    base = number << ENTRY_BITS
    low = base + max(0, min(query.from_index, 1 << ENTRY_BITS))
    wanted: list[object] = [low, base + (1 << ENTRY_BITS)]
    source, entry, conditions = "entries e", "e.entry", ""
    if query.agency is not None:
        # The plus keeps SQLite from beginning with the times or kinds of everybody's entries.
        source, entry = "concerns c CROSS JOIN entries e ON e.entry = c.entry", "c.entry"
        conditions += " AND c.agency = ?"
        wanted.append(query.agency)
    if query.kinds is not None:
        plus = "" if query.agency is None and len(query.kinds) == 1 else "+"
        conditions += f" AND {plus}e.kind IN ({', '.join('?' * len(query.kinds))})"
        wanted.extend(sorted(query.kinds))
    if query.opened is not None:
        conditions += " AND e.opened = ?"
        wanted.append(int(query.opened))
    if query.since_ms is not None:
        conditions += " AND e.time_ms >= ?"
        wanted.append(query.since_ms)
    if query.until_ms is not None:
        conditions += " AND e.time_ms <= ?"
        wanted.append(query.until_ms)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {source} WHERE {entry} >= ? AND {entry} < ?{conditions}"  # noqa: S608 - constants
        f" ORDER BY {entry} LIMIT ?",
        (*wanted, query.limit),
    ).fetchall()
    return [_entry(row, query.instance, number) for row in rows]


def read_covering(connection: sqlite3.Connection, instance: str, index: int) -> StoredCheckpoint | None:
    """See AuditIndex.checkpoint_covering; of several of one size the last, which may bear more cosignatures."""
    row = connection.execute(
        "SELECT c.note, c.frontier FROM checkpoints c JOIN instances i ON i.number = c.instance"
        " WHERE i.name = ? AND c.size > ? AND (c.size <= i.next OR c.size = i.tail_size)"
        " ORDER BY c.size, c.place DESC LIMIT 1",
        (instance, index),
    ).fetchone()
    return None if row is None else _checkpoint(row)


def read_latest(connection: sqlite3.Connection, instance: str) -> StoredCheckpoint | None:
    """See AuditIndex.latest_checkpoint."""
    row = connection.execute(
        "SELECT c.note, c.frontier FROM checkpoints c JOIN instances i ON i.number = c.instance"
        " WHERE i.name = ? AND c.size >= 0 ORDER BY c.size DESC, c.place DESC LIMIT 1",
        (instance,),
    ).fetchone()
    return None if row is None else _checkpoint(row)


def _entry(row: tuple[int, int, str, int, bytes, int], instance: str, number: int) -> EntryRow:
    entry, epoch, kind, time_ms, leaf_hash, opened = row
    return EntryRow(instance, entry - (number << ENTRY_BITS), epoch, kind, time_ms, leaf_hash, bool(opened))


def _checkpoint(row: tuple[str, bytes]) -> StoredCheckpoint:
    note, frontier = row
    nodes = tuple(frontier[at : at + HASH_BYTES] for at in range(0, len(frontier), HASH_BYTES))
    return StoredCheckpoint(note.encode(), nodes)
