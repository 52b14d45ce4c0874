"""Where ledgers are kept: for each instance a log of entries that one writer at a time extends, and its checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint, StoredCheckpoint


class LedgerReader(Protocol):
    """Reading needs no more than read access to the store. Methods raise StorageUnavailable."""

    async def instances(self) -> Sequence[str]:
        """The names of all instances that have a log here, sorted."""

    def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """From a point to the end as it is when reading begins, in order, in parts of bounded size.

        Leaves out what was voided: entries under an epoch that a claim before them in the log had ended. Yields them as
        stored: whether they are whole and consecutive is for the caller to check. After retention, reading from
        the beginning begins with the first entry that is kept.
        """

    def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """The checkpoints that are stored, in the order in which they were; all, or from another's `next_place` on."""

    async def close(self) -> None:
        """Release all resources; idempotent."""


class LedgerLog(LedgerReader, Protocol):
    """The writer's side of one instance; its name is given when it is opened."""

    async def claim(self) -> int:
        """Become the writer of this instance and return the new epoch; from now on older writers' entries are void.

        Older writers learn of it before anything that they append later is confirmed to them.
        """

    async def append(self, entries: Sequence[EncodedEntry]) -> None:
        """Make the entries durable, in order, all or none; one call at a time.

        Waits as long as the outcome is open. Raises StorageUnavailable if they certainly are not stored, LedgerFenced if a
        newer claim came first: then this writer must release nothing any more.
        """

    async def put_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Store a checkpoint of this instance durably; raises StorageUnavailable."""

    async def expire(self, before_ms: int) -> None:
        """Let entries older than this (`time_ms`) go, if the store does not do so by itself; never the newest one."""
