"""Extending an index: an instance's next entries, in one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.audit.opening import Cache, open_entry
from broker.core.audit.pieces import BLOCK, size_of
from broker.core.audit.rows import INTERNED, TABLES, Row, Rows
from broker.core.audit.segments import Segment
from broker.core.ledger.leaf import EntryInvalid
from broker.core.merkle.hashing import HASH_BYTES, leaf_hash, root_of
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, ReadPoint, StoredCheckpoint

_BLOCK_LEVELS = BLOCK.bit_length() - 1
_TEXTS = 4_096
_NOT_DOCUMENTED = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError)


class Indexer:
    """Used by the one thread that writes; remembers the numbers of texts."""

    def __init__(self) -> None:
        self._cache = Cache()
        self._numbers: dict[str, dict[str, int]] = {table: {} for table in INTERNED.values()}

    def add(
        self, connection: sqlite3.Connection, instance: int, entries: Sequence[EncodedEntry], next_: ReadPoint
    ) -> None:
        """Add the entries that follow; `next_`: where reading goes on. Raises LedgerRefused if they do not follow."""
        name, first = connection.execute(
            "SELECT name, next FROM instances WHERE number = ?", (instance,)
        ).fetchone()
        rows = Rows()
        hashes = [self._collect(rows, name, index, entry) for index, entry in enumerate(entries, first)]
        base = instance << ENTRY_BITS
        for table, columns in TABLES.items():
            self._insert(connection, base, table, columns, rows.tables[table])
        end = first + len(entries)
        _add_subtrees(connection, instance, first, hashes)
        connection.execute("INSERT INTO points VALUES (?, ?, ?)", (base + end, next_.store, next_.epoch))
        connection.execute(
            "UPDATE instances SET next = ?, store = ?, epoch = ? WHERE number = ?",
            (end, next_.store, next_.epoch, instance),
        )

    def forget(self) -> None:
        """After a transaction that was not committed: the numbers given in it are not there."""
        for numbers in self._numbers.values():
            numbers.clear()

    def _collect(self, rows: Rows, instance: str, index: int, encoded: EncodedEntry) -> bytes:
        try:
            entry = open_entry(encoded.leaf, encoded.openings, self._cache)
        except EntryInvalid:
            hashed = leaf_hash(encoded.leaf)
            rows.add_unreadable(index, hashed)
            return hashed
        if (entry.instance, entry.index) != (instance, index):
            raise LedgerRefused(
                (
                    f"instance {instance}, entry {index}: entry {entry.index} of {entry.instance} stands there;"
                    " verify the ledger, and make the index again from a whole copy",
                )
            )
        rows.add(entry)
        return entry.leaf_hash

    def _insert(
        self,
        connection: sqlite3.Connection,
        base: int,
        table: str,
        columns: tuple[str, ...],
        rows: list[Row],
    ) -> None:
        if not rows:
            return
        interned = [
            (number, INTERNED[table, column])
            for number, column in enumerate(columns, 1)
            if (table, column) in INTERNED
        ]
        for position, texts in interned:
            rows = [
                (*row[:position], self._number(connection, texts, row[position]), *row[position + 1 :])
                for row in rows
            ]
        marks = ", ".join(["?"] * len(columns))
        statement = f"INSERT INTO {table} VALUES (? + {base}, {marks})"  # noqa: S608 - names from TABLES
        try:
            connection.execute("SAVEPOINT rows")
            connection.executemany(statement, rows)
        except _NOT_DOCUMENTED:
            connection.execute("ROLLBACK TO rows")
            _insert_what_fits(connection, statement, rows)
        connection.execute("RELEASE rows")

    def _number(self, connection: sqlite3.Connection, table: str, content: object) -> int | None:
        """The number of a text in its table, given now if it is new."""
        if not isinstance(content, str):
            return None
        numbers = self._numbers[table]
        number = numbers.get(content)
        if number is None:
            if len(numbers) >= _TEXTS:
                numbers.clear()
            connection.execute(
                f"INSERT INTO {table} (content) VALUES (?) ON CONFLICT DO NOTHING",  # noqa: S608 - from INTERNED
                (content,),
            )
            (number,) = connection.execute(
                f"SELECT number FROM {table} WHERE content = ?",  # noqa: S608 - from INTERNED
                (content,),
            ).fetchone()
            numbers[content] = number
        return number


def _insert_what_fits(connection: sqlite3.Connection, statement: str, rows: list[Row]) -> None:
    """Of entries that are not as documented some rows fit in no table; verification tells of these entries."""
    for row in rows:
        with contextlib.suppress(*_NOT_DOCUMENTED):
            connection.execute(statement, row)


def begin_instance(
    connection: sqlite3.Connection, name: str, origin: str, base: CompactTree, tail: Segment | None
) -> int:
    """Add an instance without entries and return its number.

    base: the tree before its first one. tail: what follows the last one of an export that was cut.
    """
    connection.execute(
        "INSERT INTO instances (name, origin, first, next, base, tail_size, tail, store, epoch,"
        " checkpoints, next_checkpoint) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
        (
            *(name, origin, base.size, base.size, b"".join(base.frontier)),
            *((0, b"") if tail is None else (tail.end, b"".join(tail.subtrees))),
        ),
    )
    (number,) = connection.execute("SELECT number FROM instances WHERE name = ?", (name,)).fetchone()
    connection.execute("INSERT INTO points VALUES (?, 0, 0)", ((number << ENTRY_BITS) + base.size,))
    return int(number)


def add_checkpoints(
    connection: sqlite3.Connection, instance: int, stored: Sequence[StoredCheckpoint]
) -> None:
    """Add checkpoints that were stored since, of which there are some."""
    connection.executemany(
        "INSERT INTO checkpoints (instance, size, note, frontier) VALUES (?, ?, ?, ?)",
        [
            (instance, size_of(one), one.note.decode(errors="replace"), b"".join(one.frontier))
            for one in stored
        ],
    )
    connection.execute(
        "UPDATE instances SET checkpoints = checkpoints + ?, next_checkpoint = ? WHERE number = ?",
        (len(stored), stored[-1].next_place, instance),
    )


def _add_subtrees(connection: sqlite3.Connection, instance: int, first: int, hashes: list[bytes]) -> None:
    """The roots of blocks that are complete now, and of blocks of those."""
    end = first + len(hashes)
    (begin,) = connection.execute("SELECT first FROM instances WHERE number = ?", (instance,)).fetchone()
    level, low, nodes, known = 0, first, hashes, -(-begin // BLOCK)
    while True:
        blocks = range(max(known, low // BLOCK), end // BLOCK)
        if not blocks:
            return
        before = _nodes(connection, instance, level, blocks[0] * BLOCK, low)
        if blocks[0] * BLOCK > low:
            nodes = nodes[blocks[0] * BLOCK - low :]
        nodes = before + nodes
        roots = [root_of(nodes[n * BLOCK : (n + 1) * BLOCK]) for n in range(len(blocks))]
        level += _BLOCK_LEVELS
        rows = [(instance, level, number, root) for number, root in zip(blocks, roots, strict=True)]
        connection.executemany("INSERT INTO subtrees VALUES (?, ?, ?, ?)", rows)
        low, end, nodes, known = blocks[0], blocks[-1] + 1, roots, -(-known // BLOCK)


def _nodes(connection: sqlite3.Connection, instance: int, level: int, begin: int, end: int) -> list[bytes]:
    """The hashes of a level that are stored already, from one number to before another."""
    if begin >= end:
        return []
    if level == 0:
        base = instance << ENTRY_BITS
        query = "SELECT leaf_hash FROM entries WHERE entry >= ? AND entry < ? ORDER BY entry"
        rows = connection.execute(query, (base + begin, base + end)).fetchall()
    else:
        query = "SELECT hash FROM subtrees WHERE instance = ? AND level = ? AND number >= ? AND number < ? ORDER BY number"
        rows = connection.execute(query, (instance, level, begin, end)).fetchall()
    if len(rows) != end - begin or any(len(node) != HASH_BYTES for (node,) in rows):
        raise LedgerRefused(("the index has lost hashes of its tree; make it again from the ledger",))
    return [bytes(node) for (node,) in rows]
