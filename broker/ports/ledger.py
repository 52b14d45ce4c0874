"""The ledger as use cases see it: durable evidence, written before release."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from broker.model.ledger import LedgerEntry, Place, StoredEntry


class Ledger(Protocol):
    """Append-only; concurrent appends are grouped into one commit."""

    async def append(self, entries: Sequence[LedgerEntry], *, patient: bool = False) -> Sequence[Place]:
        """Make the entries durable, in order, all or none, and return their places.

        Raises StorageUnavailable if they may not be durable; then nothing that they account for may be released.
        patient: wait as long as the outcome is open, so that entries for which this raises certainly are not stored; for
        what is written again then, and must not stand in the ledger twice.
        """

    def read(self, from_index: int = 0) -> AsyncIterator[StoredEntry]:
        """This instance's entries from an index to the present end, in order."""

    async def close(self) -> None:
        """Release all resources; idempotent."""
