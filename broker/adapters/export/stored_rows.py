"""An index's rows as they are stored, compared with what entries say: column by column as SQLite puts them together.

A column of many rows comes as one text, numbers and words as a JSON list, so that equal rows cost next to nothing in Python.
Only rows that differ are read one by one, to find the first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import orjson

from broker.adapters.export.index_write import find_text, members_of
from broker.core.audit.rows import Row
from broker.core.merkle.hashing import HASH_BYTES

Column = Sequence[Any]

_TEXTS = 4_096
_MISSING = -1

# Names, and after a colon what the column is: json, a number or a word; text, canonical JSON, which has no line ends; hash.
_COLUMNS = {
    "entries": "epoch:json kind:json time_ms:json leaf_hash:hash opened:json rules:json who:json",
    "concerns": "agency:json",
    "records": "n:json content:text topic:json partition:json offset:json source:json id:json",
    "deliveries": "class:json count:json receivers:json handed_out:hash content:text",
    "released": "n:json partition:json offset:json decision:json count:json",
    "decided": "n:json decision:json handed_out:json",
    "openings": "content:text",
    "closings": "content:text ending:text",
    "moves": "content:text move:text",
    "acknowledgements": "n:json content:text stream:json",
}
_PUT_TOGETHER = {
    "json": "CAST(json_group_array({0}) AS BLOB)",
    "text": "CAST(group_concat({0}, char(10)) AS BLOB)",
    # Without the lengths a byte could have moved from one row to the next.
    "hash": f"iif(sum(length({{0}}) = {HASH_BYTES}) = count(*), CAST(group_concat(CAST({{0}} AS TEXT), '') AS BLOB), NULL)",
}
_JOINS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "json": orjson.dumps,
    "text": b"\n".join,
    "hash": b"".join,
}


class _Table:
    """How a table is read. kinds: of the columns after the entry."""

    def __init__(self, name: str, columns: str) -> None:
        names, self.kinds = zip(*(column.split(":") for column in columns.split()), strict=True)
        order = ", ".join(("entry", *names[:1])) if names[0] in ("n", "agency") else "entry"
        whole = [_PUT_TOGETHER[kind].format(column) for column, kind in zip(names, self.kinds, strict=True)]
        plain = [
            f"CAST({c} AS BLOB)" if kind == "text" else c for c, kind in zip(names, self.kinds, strict=True)
        ]
        rows = f"FROM {name} WHERE entry >= ? AND entry < ? ORDER BY {order}"
        self.whole = (
            f"SELECT count(*), CAST(json_group_array(entry - :base) AS BLOB), {', '.join(whole)}"  # noqa: S608
            f" FROM (SELECT entry, {', '.join(names)} {rows})"
        )
        self.rows = f"SELECT entry - :base, {', '.join(plain)} {rows}"

    def put_together(self, columns: list[Column]) -> tuple[bytes, ...]:
        """What `whole` gives after the count, if the table has these columns, of some rows."""
        indexes, *others = columns
        return (
            orjson.dumps(indexes),
            *(_JOINS[kind](column) for kind, column in zip(self.kinds, others, strict=True)),
        )


_TABLES = {name: _Table(name, columns) for name, columns in _COLUMNS.items()}


class StoredRows:
    """A connection, and the numbers that texts have in this file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._numbers: dict[str, dict[bytes | None, int | None]] = {}
        self._decisions: dict[bytes, list[int | None]] = {}

    def compare(
        self, name: str, base: int, begin: int, end: int, expected: list[Row]
    ) -> tuple[int, int | None]:
        """How many rows a table holds of an instance's entries, and the first entry where they are not the expected ones.

        base: the entry that has index 0. expected: see broker.core.audit.rows.
        """
        table, span = _TABLES[name], (base + begin, base + end)
        columns: list[Column] = self._columns(name, expected) if expected else [()]
        count, *found = self.connection.execute(table.whole.replace(":base", str(base)), span).fetchone()
        if count == len(columns[0]) and (not count or (*found,) == table.put_together(columns)):
            return count, None
        rows = self.connection.execute(table.rows.replace(":base", str(base)), span).fetchall()
        wanted = [*zip(*columns, strict=True)]
        return count, None if rows == wanted else _first_difference(wanted, rows)

    def _columns(self, table: str, rows: list[Row]) -> list[Column]:
        """The columns that the table has if it is right."""
        columns: list[Column] = [*zip(*rows, strict=True)]
        if table == "entries":
            columns[6:] = [self._find("rules", columns[6]), self._find("people", columns[7])]
        elif table == "deliveries":
            columns[1] = self._find("classes", columns[1])
        elif table == "decided":
            indexes, texts, counts = columns
            numbers = [self._decided(text) for text in texts]
            columns = [*_repeat(indexes, numbers), [*chain(*numbers)], [*chain(*counts)]]
        elif table == "released":
            indexes, texts = columns
            runs = orjson.loads(b"[%b]" % b",".join(texts))
            places = [run if len(run) == 4 else (*run, 1) for several in runs for run in several]
            columns = [*_repeat(indexes, runs), *zip(*places, strict=True)]
        return columns

    def _decided(self, text: bytes) -> list[int | None]:
        """The numbers of all of an entry's decisions."""
        found = self._decisions.get(text)
        if found is None:
            if len(self._decisions) >= _TEXTS:
                self._decisions.clear()
            found = self._decisions[text] = self._find("decisions", members_of(text))
        return found

    def _find(self, table: str, texts: Sequence[bytes | None]) -> list[int | None]:
        """The numbers of texts. One that is not there makes no row right, since no text has the number that it is given."""
        known = self._numbers.setdefault(table, {None: None})
        if len(known) > _TEXTS:
            known = self._numbers[table] = {None: None}
        for text in {*texts} - known.keys():
            number = None if text is None else find_text(self.connection, table, text)
            known[text] = _MISSING if number is None else number
        return [known[text] for text in texts]


def _repeat(indexes: Column, several: Sequence[Sequence[object]]) -> tuple[Column, Column]:
    """The entry and the number of each row, where an entry has several."""
    counts = [*map(len, several)]
    if counts.count(1) == len(counts):
        return indexes, [0] * len(counts)
    pairs = zip(indexes, counts, strict=True)
    repeated = [index for index, count in pairs for _ in range(count)]
    return repeated, [n for count in counts for n in range(count)]


def _first_difference(expected: list[Row], found: list[Row]) -> int:
    """The index of the entry where two lists of rows differ."""
    for one, other in zip(chain(expected, [None]), chain(found, [None]), strict=False):
        if one != other:
            return min(int(row[0]) for row in (one, other) if row is not None)
    longer = max(expected, found, key=len)
    return int(longer[min(len(expected), len(found))][0])
