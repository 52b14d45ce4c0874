"""The ledger: durable evidence, written before release."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from broker.model.ledger import LedgerEntry, StoredEntry


class Ledger(Protocol):
    """Append-only; concurrent appends are grouped into one commit."""

    async def append(self, entries: Sequence[LedgerEntry]) -> Sequence[int]:
        """Make the entries durable, in order, all or none, and return their positions.

        Raises StorageUnavailable if they may not be durable; then nothing that they account for may be released.
        """

    def read(self, from_position: int = 0) -> AsyncIterator[StoredEntry]:
        """Entries from a position to the present end, in order."""

    async def close(self) -> None:
        """Release all resources; idempotent."""
