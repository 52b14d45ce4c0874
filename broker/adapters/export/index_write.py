"""Extending an index: an instance's next entries, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.audit.forms import PARTS
from broker.core.audit.opening import Cache, Opener
from broker.core.audit.pieces import BLOCK, size_of
from broker.core.audit.rows import Row, Rows
from broker.core.audit.segments import Segment
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import EntryInvalid
from broker.core.merkle.hashing import HASH_BYTES, leaf_hash, root_of
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, ReadPoint, StoredCheckpoint

_BLOCK_LEVELS = BLOCK.bit_length() - 1
_TEXTS = 4_096
_SQLITE_ERROR = 1
_STORED_AS_TEXT = ("acknowledged", "end", "move", "receivers", "records", "stream")
"""Parts that tables hold as they are: here they are parsed only to see that they can be."""


# What is handed over as bytes and stored as text is valid UTF-8: it was parsed as JSON.
_INSERTS = {
    "entries": "INSERT INTO entries VALUES (? + :base, ?, ?, ?, ?, ?, ?, ?)",
    "concerns": "INSERT INTO concerns VALUES (? + :base, ?)",
    "records": "INSERT INTO records VALUES (? + :base, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?)",
    "deliveries": "INSERT INTO deliveries VALUES (? + :base, ?, ?, ?, ?, CAST(? AS TEXT))",
    "released": "INSERT INTO released SELECT ? + :base, key, json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " json_extract(value, '$[2]'), ifnull(json_extract(value, '$[3]'), 1) FROM json_each(CAST(? AS TEXT))",
    "openings": "INSERT INTO openings VALUES (? + :base, CAST(? AS TEXT))",
    "closings": "INSERT INTO closings VALUES (? + :base, CAST(? AS TEXT), CAST(? AS TEXT))",
    "moves": "INSERT INTO moves VALUES (? + :base, CAST(? AS TEXT), CAST(? AS TEXT))",
    "acknowledgements": "INSERT INTO acknowledgements VALUES (? + :base, ?, CAST(? AS TEXT), ?)",
    "decided": "INSERT INTO decided VALUES (? + :base, ?, ?, ?)",
}


class Indexer:
    """Used by the one thread that writes; remembers the numbers of texts."""

    def __init__(self) -> None:
        self._cache = Cache()
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._decisions: dict[bytes, list[int]] = {}

    def add(
        self, connection: sqlite3.Connection, instance: int, entries: Sequence[EncodedEntry], next_: ReadPoint
    ) -> None:
        """Add the entries that follow; `next_`: where reading goes on. Raises LedgerRefused if they do not follow."""
        name, first = connection.execute(
            "SELECT name, next FROM instances WHERE number = ?", (instance,)
        ).fetchone()
        rows = Rows()
        opener = Opener(name, first, self._cache)
        hashes = [
            self._collect(rows, opener, name, index, entry) for index, entry in enumerate(entries, first)
        ]
        base = instance << ENTRY_BITS
        self._intern(connection, rows)
        for table, statement in _INSERTS.items():
            _insert(connection, statement.replace(":base", str(base)), rows.tables[table])
        end = first + len(entries)
        _add_subtrees(connection, instance, first, hashes)
        connection.execute("INSERT INTO points VALUES (?, ?, ?)", (base + end, next_.store, next_.epoch))
        connection.execute(
            "UPDATE instances SET next = ?, store = ?, epoch = ? WHERE number = ?",
            (end, next_.store, next_.epoch, instance),
        )

    def forget(self) -> None:
        """After a transaction that was not committed: the numbers given in it are not there."""
        self._numbers.clear()
        self._decisions.clear()

    def _collect(self, rows: Rows, opener: Opener, instance: str, index: int, encoded: EncodedEntry) -> bytes:
        try:
            entry = opener.open(encoded.leaf, encoded.openings)
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
        try:
            for name in _STORED_AS_TEXT:
                if entry.taken is not None and name in PARTS[entry.kind]:
                    entry.value(name)
        except ValueError:
            rows.add_unreadable(index, entry.leaf_hash)
        else:
            rows.add(entry)
        return entry.leaf_hash

    def _intern(self, connection: sqlite3.Connection, rows: Rows) -> None:
        """Put numbers in the places of texts that stand in tables of their own; a row for each of several decisions."""
        tables = rows.tables
        tables["entries"] = [
            (*row[:6], self._number(connection, "rules", row[6]), self._number(connection, "people", row[7]))
            for row in tables["entries"]
        ]
        tables["deliveries"] = [
            (index, self._number(connection, "classes", group), *row)
            for index, group, *row in tables["deliveries"]
        ]
        tables["decided"] = [
            (index, n, *each)
            for index, text, counts in tables["decided"]
            for n, each in enumerate(zip(self._numbers_of(connection, text), counts, strict=True))
        ]

    def _numbers_of(self, connection: sqlite3.Connection, decisions: bytes) -> list[int]:
        found = self._decisions.get(decisions)
        if found is None:
            if len(self._decisions) >= _TEXTS:
                self._decisions.clear()
            texts = members_of(decisions)
            found = self._decisions[decisions] = [
                number
                for text in texts
                if (number := self._number(connection, "decisions", text)) is not None
            ]
        return found

    def _number(self, connection: sqlite3.Connection, table: str, content: bytes | None) -> int | None:
        """The number of a text in its table, given now if it is new."""
        if content is None:
            return None
        number = self._numbers.get((table, content))
        if number is None:
            if len(self._numbers) >= _TEXTS:
                self._numbers.clear()
            connection.execute(
                f"INSERT INTO {table} (content) VALUES (CAST(? AS TEXT)) ON CONFLICT DO NOTHING",  # noqa: S608
                (content,),
            )
            number = find_text(connection, table, content)
            if number is None:
                raise LedgerRefused((f"the index's table '{table}' has lost a row; make the index again",))
            self._numbers[table, content] = number
        return number


def find_text(connection: sqlite3.Connection, table: str, content: bytes) -> int | None:
    """The number of a text in its table, or None."""
    found = connection.execute(
        f"SELECT number FROM {table} WHERE content = CAST(? AS TEXT)",  # noqa: S608 - a name from INTERNED
        (content,),
    ).fetchone()
    return None if found is None else int(found[0])


def members_of(text: bytes) -> list[bytes]:
    """The members of a JSON list in canonical form, each in its own."""
    return [canonical(member) for member in orjson.loads(text)]


def _insert(connection: sqlite3.Connection, statement: str, rows: list[Row]) -> None:
    """Of entries that are not as documented some rows fit in no table; verification tells of these entries."""
    if not rows:
        return
    connection.execute("SAVEPOINT rows")
    try:
        connection.executemany(statement, rows)
    except (sqlite3.Error, OverflowError) as error:
        _raise_unless_of_the_row(error)
        connection.execute("ROLLBACK TO rows")
        for row in rows:
            try:
                connection.execute(statement, row)
            except (sqlite3.Error, OverflowError) as unfit:
                _raise_unless_of_the_row(unfit)
    connection.execute("RELEASE rows")


def _raise_unless_of_the_row(error: Exception) -> None:
    """A value of another type or no JSON is the row's fault; a full disk is not."""
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF != _SQLITE_ERROR:
        raise error
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.OperationalError | sqlite3.ProgrammingError
    ):
        raise error


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
