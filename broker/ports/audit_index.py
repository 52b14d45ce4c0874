"""An index of ledgers, so that questions about them need not read them whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from broker.model.audit import (
    Coverage,
    EntryQuery,
    EntryRow,
    ProgressCallback,
    Publication,
    Reception,
    Sighting,
)
from broker.model.ledger import ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerReader


class AuditIndex(Protocol):
    """Holds what is found in entries, never their openings; brought up to date from a reader. Raises StorageUnavailable."""

    async def update(self, reader: LedgerReader, progress: ProgressCallback | None = None) -> None:
        """Read on from where the last update ended, all instances and their checkpoints.

        Raises LedgerRefused if what is read is not the continuation of what was indexed.
        """

    async def coverage(self) -> Sequence[Coverage]:
        """What is indexed, by instance, sorted."""

    async def point(self, instance: str, index: int) -> ReadPoint:
        """A point at or before an entry, near it, from which a reader reaches it."""

    async def entry(self, instance: str, index: int) -> EntryRow | None:
        """One entry, or None if it is not indexed."""

    async def entries(self, query: EntryQuery) -> Sequence[EntryRow]:
        """Entries by index; for the next page ask from the last one's index + 1."""

    async def inclusion_proof(self, instance: str, index: int, size: int) -> Sequence[bytes]:
        """That the entry is in the tree of this size (RFC 9162 §2.1.3.1); raises ValueError if that is not indexed."""

    async def consistency_proof(self, instance: str, old_size: int, new_size: int) -> Sequence[bytes]:
        """That the old tree is a prefix of the new one (RFC 9162 §2.1.4.1); raises ValueError if that is not indexed."""

    async def checkpoint_covering(self, instance: str, index: int) -> StoredCheckpoint | None:
        """The first stored checkpoint whose tree holds the entry, or None if there is none yet."""

    async def latest_checkpoint(self, instance: str) -> StoredCheckpoint | None:
        """The newest stored checkpoint, or None."""

    async def publications(self, source: str, record_id: str) -> Sequence[Publication]:
        """Where and when a record was stored."""

    async def sightings(self, source: str, record_id: str) -> Sequence[Sighting]:
        """Who was handed a record, in the order of time."""

    async def names(
        self, topic: str, places: Sequence[tuple[int, int]]
    ) -> Mapping[tuple[int, int], tuple[str, str]]:
        """Source and id of the records at places (partition, offset) of a topic, as far as they are known."""

    async def receptions(
        self, agency: str, topic: str | None = None, zone_minutes: int = 0, owner: str | None = None
    ) -> Sequence[Reception]:
        """What an agency received, by day in a zone that many minutes east of UTC.

        owner: only that owner's records, in a time that depends on these alone.
        """

    async def close(self) -> None:
        """Release all resources; idempotent."""


@dataclass(slots=True)
class Compared:
    """differences: tables that differ, each with the index of the first entry where. rows: by table how many are stored."""

    differences: list[tuple[str, int]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


class AuditTables(Protocol):
    """An index's tables as they are stored, to be compared with the entries; can be pickled, and opens itself where used.

    Methods block, and raise StorageUnavailable.
    """

    def differences(
        self, instance: str, begin: int, end: int, expected: dict[str, list[tuple[Any, ...]]]
    ) -> Compared:
        """Compare the tables' rows of these entries with the expected ones, as broker.core.audit.rows makes them."""

    def totals(self) -> dict[str, int]:
        """By table how many rows it has, of whatever entries."""

    def subtrees(self, instance: str) -> dict[tuple[int, int], bytes]:
        """By level and number the roots of complete subtrees that are stored."""

    def extents(self) -> dict[str, tuple[int, int, int]]:
        """By instance the first entry's index, the one after the last, and the number of checkpoints."""

    def checkpoints(self, instance: str, begin: int, count: int) -> list[tuple[bytes, bytes]]:
        """Notes and frontiers of so many checkpoints from the `begin`-th on, in the order in which they were stored."""

    def bounds(self, instance: str) -> tuple[bytes, int, bytes] | None:
        """The frontier before the first entry; of an export that was cut the size of a larger tree, and what leads there."""

    def structure(self) -> list[str]:
        """What is wrong with the file as a whole, one line each: definitions, indexes, rows that belong to no entry."""

    def close(self) -> None:
        """Release what was opened in this process; idempotent."""
