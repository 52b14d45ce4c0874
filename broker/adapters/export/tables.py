"""The index's tables as they are stored, for the comparison with the entries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.adapters.export.index_file import connect_finished, definitions, expected_definitions
from broker.adapters.export.index_read import find_number
from broker.adapters.export.schema import ENTRY_BITS
from broker.adapters.export.stored_rows import StoredRows
from broker.adapters.sqlite.failure import reported
from broker.core.audit.rows import INTERNED, TABLES, Row
from broker.ports.audit_index import Compared

_KEPT_OPEN: dict[Path, StoredRows] = {}
"""One connection for each process and file: pieces are many."""


@dataclass(frozen=True, slots=True)
class SqliteTables:
    """Implements broker.ports.audit_index.AuditTables on an index's file."""

    path: Path

    def differences(self, instance: str, begin: int, end: int, expected: dict[str, list[Row]]) -> Compared:
        """See AuditTables."""
        with reported(self.path):
            opened = self._opened()
            number = find_number(opened.connection, instance)
            if number is None:
                return Compared([(table, rows[0][0]) for table, rows in expected.items() if rows])
            compared = Compared()
            for table, rows in expected.items():
                count, index = opened.compare(table, number << ENTRY_BITS, begin, end, rows)
                compared.rows[table] = count
                if index is not None:
                    compared.differences.append((table, index))
            return compared

    def totals(self) -> dict[str, int]:
        """See AuditTables."""
        with reported(self.path):
            count = self._opened().connection.execute
            return {name: count(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}  # noqa: S608

    def subtrees(self, instance: str) -> dict[tuple[int, int], bytes]:
        """See AuditTables."""
        with reported(self.path):
            rows = self._opened().connection.execute(
                "SELECT s.level, s.number, s.hash FROM subtrees s JOIN instances i ON i.number = s.instance"
                " WHERE i.name = ?",
                (instance,),
            )
            return {(level, number): bytes(node) for level, number, node in rows}

    def extents(self) -> dict[str, tuple[int, int, int]]:
        """See AuditTables."""
        with reported(self.path):
            rows = (
                self._opened()
                .connection.execute("SELECT name, first, next, checkpoints FROM instances")
                .fetchall()
            )
            return {name: (first, end, checkpoints) for name, first, end, checkpoints in rows}

    def checkpoints(self, instance: str, begin: int, count: int) -> list[tuple[bytes, bytes]]:
        """See AuditTables."""
        with reported(self.path):
            rows = self._opened().connection.execute(
                "SELECT c.note, c.frontier FROM checkpoints c JOIN instances i ON i.number = c.instance"
                " WHERE i.name = ? ORDER BY c.place LIMIT ? OFFSET ?",
                (instance, count, begin),
            )
            return [(note.encode(), bytes(frontier)) for note, frontier in rows]

    def bounds(self, instance: str) -> tuple[bytes, int, bytes] | None:
        """See AuditTables."""
        with reported(self.path):
            found = self._opened().connection.execute(
                "SELECT base, tail_size, tail FROM instances WHERE name = ?", (instance,)
            )
            row = found.fetchone()
            return None if row is None else (bytes(row[0]), int(row[1]), bytes(row[2]))

    def structure(self) -> list[str]:
        """See AuditTables."""
        with reported(self.path):
            connection = self._opened().connection
            found = (
                []
                if definitions(connection) == expected_definitions()
                else ["its tables, indexes or views were changed"]
            )
            if found:
                return found
            problems = [str(problem) for (problem,) in connection.execute("PRAGMA integrity_check(1)")]
            found += [f"SQLite finds it damaged ({problem[:80]})" for problem in problems if problem != "ok"]
            unused = [name for name, query in _UNUSED.items() if connection.execute(query).fetchone()[0]]
            return found + [f"table '{name}' holds texts of no entry that was exported" for name in unused]

    def close(self) -> None:
        """See AuditTables."""
        opened = _KEPT_OPEN.pop(self.path, None)
        if opened is not None:
            opened.connection.close()

    def _opened(self) -> StoredRows:
        opened = _KEPT_OPEN.get(self.path)
        if opened is None:
            opened = _KEPT_OPEN[self.path] = StoredRows(connect_finished(self.path))
        return opened


def _unused(texts: str) -> str:
    """Texts that no row refers to."""
    ((table, column),) = [of for of, name in INTERNED.items() if name == texts]
    column = "decision" if column == "decisions" else column
    used = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - names from INTERNED
    return f"SELECT count(*) FROM {texts} WHERE number NOT IN ({used})"  # noqa: S608 - names from INTERNED


_UNUSED = {texts: _unused(texts) for texts in sorted(set(INTERNED.values()))}
