"""An index's rows as they are stored, compared with what entries say: column by column as SQLite puts them together.

A column of many rows comes as one text, numbers and words as a JSON list, so that equal rows cost next to nothing in Python.
Only rows that differ are read one by one, to find the first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain

import orjson

from broker.adapters.export.index_write import find_text, members_of
from broker.core.audit.rows import Row
from broker.core.merkle.hashing import HASH_BYTES

_TEXTS = 4_096
_MISSING = -1

# Names, and after a colon what the column is: json, a number or a word; text, canonical JSON, which has no line ends; hash.
_COLUMNS = {
    "entries": "epoch:json kind:json time_ms:json leaf_hash:hash opened:json rules:json who:json",
    "concerns": "agency:json",
    "records": "n:json content:text topic:json partition:json offset:json",
    "deliveries": "class:json count:json receivers:json handed_out:hash content:text",
    "released": "n:json partition:json offset:json decision:json count:json",
    "decided": "n:json decision:json handed_out:json",
    "openings": "content:text",
    "closings": "content:text ending:text",
    "moves": "content:text move:text",
    "acknowledgements": "n:json content:text",
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

    def put_together(self, rows: list[Row]) -> tuple[bytes, ...]:
        """What `whole` gives after the count, if the table holds these rows, of which there are some."""
        indexes, *columns = zip(*rows, strict=True)
        return (
            orjson.dumps(indexes),
            *(_JOINS[kind](column) for kind, column in zip(self.kinds, columns, strict=True)),
        )


_TABLES = {name: _Table(name, columns) for name, columns in _COLUMNS.items()}


class StoredRows:
    """A connection, and the numbers that texts have in this file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._numbers: dict[tuple[str, bytes], int | None] = {}
        self._decisions: dict[bytes, list[int | None]] = {}

    def compare(
        self, name: str, base: int, begin: int, end: int, expected: list[Row]
    ) -> tuple[int, int | None]:
        """How many rows a table holds of an instance's entries, and the first entry where they are not the expected ones.

        base: the entry that has index 0. expected: see broker.core.audit.rows.
        """
        table, span = _TABLES[name], (base + begin, base + end)
        wanted = self._as_stored(name, expected)
        count, *found = self.connection.execute(table.whole.replace(":base", str(base)), span).fetchone()
        if count == len(wanted) and (not wanted or (*found,) == table.put_together(wanted)):
            return count, None
        rows = self.connection.execute(table.rows.replace(":base", str(base)), span).fetchall()
        return count, None if rows == wanted else _first_difference(wanted, rows)

    def _as_stored(self, table: str, rows: list[Row]) -> list[Row]:
        """The rows that the table has if it is right."""
        number = self._number
        if table == "entries":
            return [(*row[:6], number("rules", row[6]), number("people", row[7])) for row in rows]
        if table == "deliveries":
            return [(row[0], number("classes", row[1]), *row[2:]) for row in rows]
        if table == "decided":
            return [
                (index, n, *each)
                for index, text, counts in rows
                for n, each in enumerate(zip(self._decided(text), counts, strict=True))
            ]
        if table == "released":
            runs = orjson.loads(b"[%b]" % b",".join([text for _, text in rows]))
            return [
                (index, n, *run) if len(run) == 4 else (index, n, *run, 1)
                for (index, _), several in zip(rows, runs, strict=True)
                for n, run in enumerate(several)
            ]
        return rows

    def _decided(self, text: bytes) -> list[int | None]:
        """The numbers of all of an entry's decisions."""
        found = self._decisions.get(text)
        if found is None:
            if len(self._decisions) >= _TEXTS:
                self._decisions.clear()
            found = self._decisions[text] = [self._number("decisions", member) for member in members_of(text)]
        return found

    def _number(self, table: str, content: bytes | None) -> int | None:
        """None for what is not there: then the row cannot be right either, since no text has that number."""
        if content is None:
            return None
        key = table, content
        number = self._numbers.get(key)
        if number is None:
            if len(self._numbers) >= _TEXTS:
                self._numbers.clear()
            found = find_text(self.connection, table, content)
            number = self._numbers[key] = _MISSING if found is None else found
        return number


def _first_difference(expected: list[Row], found: list[Row]) -> int:
    """The index of the entry where two lists of rows differ."""
    for one, other in zip(chain(expected, [None]), chain(found, [None]), strict=False):
        if one != other:
            return min(int(row[0]) for row in (one, other) if row is not None)
    longer = max(expected, found, key=len)
    return int(longer[min(len(expected), len(found))][0])
