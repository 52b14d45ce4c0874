"""Records that are still stored, read from one end to the other without a place of one's own in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from broker.model.record import StoredRecord


class StoredRecords(Protocol):
    """Reading needs no more than read access to the store. Methods raise StorageUnavailable."""

    def read(self, topic: str) -> AsyncIterator[Sequence[StoredRecord]]:
        """All records of a topic, from the earliest retained ones to the end that it had, in parts of bounded size.

        Nothing for a topic that is not there.
        """

    async def close(self) -> None:
        """Release all resources; idempotent."""
