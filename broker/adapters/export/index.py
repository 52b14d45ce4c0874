"""The index of ledgers in one SQLite file: the AuditIndex port, in an export or in a broker's data directory."""

from __future__ import annotations

from pathlib import Path


class SqliteAuditIndex:
    """Implements broker.ports.audit_index.AuditIndex; work is done in threads of its own."""

    @classmethod
    async def open(cls, path: Path, exchange: str = "", *, read_only: bool = False) -> SqliteAuditIndex:
        """Open or create the file; one process writes at a time. Raises StorageUnavailable.

        exchange: the exchange's name, for the origins of checkpoints; not needed to read only.
        """
        raise NotImplementedError
