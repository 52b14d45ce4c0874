"""The index's tables as they are stored, for the comparison with the entries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SqliteTables:
    """Implements broker.ports.audit_index.AuditTables on an index's file."""

    path: Path

    def rows(self, instance: str, begin: int, end: int) -> dict[str, list[tuple[object, ...]]]:
        """See AuditTables."""
        raise NotImplementedError
