"""Reading an export directory as a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from broker.core.checkpoint.note import VerifierKey
from broker.model.audit import Coverage
from broker.model.ledger import ReadEntries, ReadPoint, StoredCheckpoint


class ExportReader:
    """Implements the LedgerReader port on an export directory, and tells what else is in it."""

    @classmethod
    async def open(cls, directory: Path) -> ExportReader:
        """Raises StorageUnavailable unless it is an export of a version that this one reads."""
        raise NotImplementedError

    @property
    def exchange(self) -> str:
        """The exchange's name."""
        raise NotImplementedError

    @property
    def tables_path(self) -> Path:
        """The SQLite file of the export."""
        raise NotImplementedError

    async def coverage(self) -> Sequence[Coverage]:
        """Which entries of which instances are here."""
        raise NotImplementedError

    async def keys(self) -> Sequence[VerifierKey]:
        """What `ledger.vkey` of the export lists; no ground for trust, since who writes an export writes this too."""
        raise NotImplementedError

    async def revision(self, revision_id: str) -> Mapping[str, bytes] | None:
        """A rulebook revision's files, checked against its id, or None; raises StorageUnavailable if they differ from it."""
        raise NotImplementedError

    async def instances(self) -> Sequence[str]:
        """See LedgerReader."""
        raise NotImplementedError

    def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """See LedgerReader; `store` counts lines."""
        raise NotImplementedError

    def checkpoints(self, instance: str) -> AsyncIterator[StoredCheckpoint]:
        """See LedgerReader."""
        raise NotImplementedError

    async def close(self) -> None:
        """See LedgerReader."""
