"""An index's rows as they are stored, in a form that can be compared with what entries say without taking either apart."""

from __future__ import annotations

import sqlite3

from broker.adapters.export.index_write import find_text, members_of
from broker.core.audit.rows import Row

_TEXTS = 4_096
_MISSING = -1
_SPAN = "WHERE entry >= ? AND entry < ?"
_SELECTS = {
    "entries": "SELECT entry - :base, epoch, kind, time_ms, leaf_hash, opened, rules, who FROM entries",
    "concerns": "SELECT entry - :base, agency FROM concerns",
    "records": "SELECT entry - :base, n, CAST(content AS BLOB), topic, partition, offset FROM records",
    "deliveries": "SELECT entry - :base, class, count, receivers, handed_out FROM deliveries",
    "receivers": "SELECT entry - :base, n, CAST(content AS BLOB) FROM receivers",
    "openings": "SELECT entry - :base, CAST(content AS BLOB) FROM openings",
    "closings": "SELECT entry - :base, CAST(content AS BLOB), CAST(ending AS BLOB) FROM closings",
    "moves": "SELECT entry - :base, CAST(content AS BLOB), CAST(move AS BLOB) FROM moves",
    "acknowledgements": "SELECT entry - :base, n, CAST(content AS BLOB) FROM acknowledgements",
}
_ORDERS = {
    "concerns": "entry, agency",
    "records": "entry, n",
    "receivers": "entry, n",
    "acknowledgements": "entry, n",
}
_QUERIES = {
    table: f"{query} {_SPAN} ORDER BY {_ORDERS.get(table, 'entry')}" for table, query in _SELECTS.items()
}
# An entry's places, and the numbers of its decisions, come as one text: rows lie in the order of their numbers, which are
# all of 0, 1, 2 … if the last one is one less than their count.
_QUERIES["released"] = (
    "SELECT entry - :base, CAST('[' || group_concat(place) || ']' AS BLOB), count(*), max(n) FROM"  # noqa: S608
    " (SELECT entry, n, '[' || partition || ',' || offset || ',' || decision ||"
    " iif(count = 1, '', ',' || count) || ']' AS place FROM released"
    f" {_SPAN} ORDER BY entry, n) GROUP BY entry ORDER BY entry"
)
_QUERIES["decided"] = (
    "SELECT entry - :base, group_concat(decision), count(*), max(n) FROM"  # noqa: S608
    f" (SELECT entry, n, decision FROM decided {_SPAN} ORDER BY entry, n) GROUP BY entry ORDER BY entry"
)
MISCOUNTED = (
    "SELECT count(*) FROM decided x WHERE x.handed_out !="
    " (SELECT ifnull(sum(r.count), 0) FROM released r WHERE r.entry = x.entry AND r.decision = x.n)"
)


class StoredRows:
    """A connection, and the numbers that texts have in this file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._numbers: dict[tuple[str, bytes], int | None] = {}
        self._decisions: dict[bytes, tuple[str, int, int]] = {}

    def read(self, table: str, base: int, begin: int, end: int) -> list[Row]:
        """A table's rows of an instance's entries, in the form of `as_stored`; base: the entry that has index 0."""
        query = _QUERIES[table].replace(":base", str(base))
        return self.connection.execute(query, (base + begin, base + end)).fetchall()

    def as_stored(self, table: str, rows: list[Row]) -> list[Row]:
        """What the table's query gives, if the table is right."""
        if table == "entries":
            return [(*row[:6], self._number("rules", row[6]), self._number("people", row[7])) for row in rows]
        if table == "deliveries":
            return [(row[0], self._number("classes", row[1]), *row[2:]) for row in rows]
        if table == "decided":
            return [(index, *self._decided(text)) for index, text in rows]
        if table == "released":
            return [(index, text, count := text.count(b"],[") + 1, count - 1) for index, text in rows]
        return rows

    def _decided(self, text: bytes) -> tuple[str, int, int]:
        """The numbers of all of an entry's decisions, how many there are, and the last one's place."""
        found = self._decisions.get(text)
        if found is None:
            if len(self._decisions) >= _TEXTS:
                self._decisions.clear()
            numbers = [str(self._number("decisions", member)) for member in members_of(text)]
            found = self._decisions[text] = ",".join(numbers), len(numbers), len(numbers) - 1
        return found

    def _number(self, table: str, content: bytes | None) -> int | None:
        """None for what is not there: then the row cannot be right either, since no text has that number."""
        if content is None:
            return None
        key = table, content
        if key not in self._numbers:
            if len(self._numbers) >= _TEXTS:
                self._numbers.clear()
            number = find_text(self.connection, table, content)
            self._numbers[key] = _MISSING if number is None else number
        return self._numbers[key]


def first_difference(expected: list[Row], found: list[Row]) -> int:
    """The index of the entry where two lists of rows differ."""
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return min(int(one[0]), int(other[0]))
    longer = max(expected, found, key=len)
    return int(longer[min(len(expected), len(found))][0])
