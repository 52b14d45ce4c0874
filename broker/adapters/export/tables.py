"""The index's tables as they are stored, for the comparison with the entries."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.export.index_file import connect_finished, definitions, expected_definitions
from broker.adapters.export.index_read import find_number
from broker.adapters.export.schema import ENTRY_BITS
from broker.adapters.sqlite.failure import reported
from broker.core.audit.rows import INTERNED, TABLES, Row

_KEPT_OPEN: dict[Path, sqlite3.Connection] = {}
"""One connection for each process and file: pieces are many."""


@dataclass(frozen=True, slots=True)
class SqliteTables:
    """Implements broker.ports.audit_index.AuditTables on an index's file."""

    path: Path

    def rows(self, instance: str, begin: int, end: int) -> dict[str, list[Row]]:
        """See AuditTables."""
        with reported(self.path):
            connection = self._connection()
            number = find_number(connection, instance)
            if number is None:
                return {}
            base = number << ENTRY_BITS
            return {
                table: connection.execute(_query(table, base), (base + begin, base + end)).fetchall()
                for table in TABLES
            }

    def subtrees(self, instance: str) -> dict[tuple[int, int], bytes]:
        """See AuditTables."""
        with reported(self.path):
            rows = self._connection().execute(
                "SELECT s.level, s.number, s.hash FROM subtrees s JOIN instances i ON i.number = s.instance"
                " WHERE i.name = ?",
                (instance,),
            )
            return {(level, number): bytes(node) for level, number, node in rows}

    def extents(self) -> dict[str, tuple[int, int, int]]:
        """See AuditTables."""
        with reported(self.path):
            rows = (
                self._connection().execute("SELECT name, first, next, checkpoints FROM instances").fetchall()
            )
            return {name: (first, end, checkpoints) for name, first, end, checkpoints in rows}

    def checkpoints(self, instance: str, begin: int, count: int) -> list[tuple[bytes, bytes]]:
        """See AuditTables."""
        with reported(self.path):
            rows = self._connection().execute(
                "SELECT c.note, c.frontier FROM checkpoints c JOIN instances i ON i.number = c.instance"
                " WHERE i.name = ? ORDER BY c.place LIMIT ? OFFSET ?",
                (instance, count, begin),
            )
            return [(note.encode(), bytes(frontier)) for note, frontier in rows]

    def bounds(self, instance: str) -> tuple[bytes, int, bytes] | None:
        """See AuditTables."""
        with reported(self.path):
            found = self._connection().execute(
                "SELECT base, tail_size, tail FROM instances WHERE name = ?", (instance,)
            )
            row = found.fetchone()
            return None if row is None else (bytes(row[0]), int(row[1]), bytes(row[2]))

    def structure(self) -> list[str]:
        """See AuditTables."""
        with reported(self.path):
            connection = self._connection()
            found = (
                []
                if definitions(connection) == expected_definitions()
                else ["its tables, indexes or views were changed"]
            )
            if found:
                return found
            problems = [str(problem) for (problem,) in connection.execute("PRAGMA integrity_check(1)")]
            found += [f"SQLite finds it damaged ({problem[:80]})" for problem in problems if problem != "ok"]
            orphans = [table for table, query in _ORPHANS.items() if connection.execute(query).fetchone()[0]]
            return found + [f"table '{table}' holds rows of no entry that was exported" for table in orphans]

    def close(self) -> None:
        """See AuditTables."""
        connection = _KEPT_OPEN.pop(self.path, None)
        if connection is not None:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection = _KEPT_OPEN.get(self.path)
        if connection is None:
            connection = _KEPT_OPEN[self.path] = connect_finished(self.path)
        return connection


def _query(table: str, base: int) -> str:
    joins, columns = "", [f"t.entry - {base}"]
    for number, column in enumerate(TABLES[table]):
        texts = INTERNED.get((table, column))
        if texts is None:
            columns.append(f"t.{column}")
        else:
            joins += f" LEFT JOIN {texts} j{number} ON j{number}.number = t.{column}"
            columns.append(f"j{number}.content")
    order = ", t.agency" if table == "concerns" else ", t.n" if TABLES[table][0] == "n" else ""
    return (
        f"SELECT {', '.join(columns)} FROM {table} t{joins}"  # noqa: S608 - names from TABLES
        f" WHERE t.entry >= ? AND t.entry < ? ORDER BY t.entry{order}"
    )


def _beyond(table: str) -> str:
    """Rows whose entry lies in no instance's range: comparing by ranges would never meet them."""
    return (
        f"SELECT count(*) FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM instances i WHERE"  # noqa: S608
        f" t.entry >= (i.number << {ENTRY_BITS}) + i.first AND t.entry < (i.number << {ENTRY_BITS}) + i.next)"
    )


def _unused(texts: str) -> str:
    """Texts that no row refers to."""
    ((table, column),) = [of for of, name in INTERNED.items() if name == texts]
    used = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - names from INTERNED
    return f"SELECT count(*) FROM {texts} WHERE number NOT IN ({used})"  # noqa: S608 - names from INTERNED


_ORPHANS = {table: _beyond(table) for table in TABLES} | {
    texts: _unused(texts) for texts in sorted(set(INTERNED.values()))
}
