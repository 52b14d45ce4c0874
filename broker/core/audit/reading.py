"""Reading single entries of a ledger."""

from __future__ import annotations

from contextlib import aclosing

from broker.core.ledger.heading import read_heading
from broker.core.merkle.hashing import leaf_hash
from broker.errors import LedgerRefused
from broker.model.audit import EntryRow
from broker.model.ledger import EncodedEntry
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


class EntryReader:
    """Reads entries by their index; those that lie side by side are read once for all."""

    def __init__(self, reader: LedgerReader, index: AuditIndex) -> None:
        self._reader = reader
        self._index = index
        self._instance = ""
        self._held: dict[int, EncodedEntry] = {}

    async def read(self, instance: str, entry_index: int) -> EncodedEntry:
        """See `read_entry`."""
        row = await self._index.entry(instance, entry_index)
        if row is None:
            raise LookupError(f"there is no entry {entry_index} of instance '{instance}' here")
        if instance != self._instance or entry_index not in self._held:
            await self._fill(instance, entry_index)
        entry = self._held.get(entry_index)
        if entry is None or leaf_hash(entry.leaf) != row.leaf_hash:
            raise _changed(row)
        return entry

    async def _fill(self, instance: str, entry_index: int) -> None:
        """Hold the page that has the entry."""
        self._instance, self._held = instance, {}
        point = await self._index.point(instance, entry_index)
        async with aclosing(self._reader.read(instance, point)) as pages:  # type: ignore[type-var]
            async for page in pages:
                for entry in page.entries:
                    heading = read_heading(entry.leaf)
                    if heading is not None:
                        self._held[heading.index] = entry
                if entry_index in self._held or page.next.index > entry_index:
                    return
                self._held.clear()


async def read_entry(
    reader: LedgerReader, index: AuditIndex, instance: str, entry_index: int
) -> EncodedEntry:
    """One entry as it is stored, checked against the index's leaf hash.

    Raises LookupError if there is none, LedgerRefused if it is not the one that was indexed, StorageUnavailable.
    """
    return await EntryReader(reader, index).read(instance, entry_index)


def _changed(row: EntryRow) -> LedgerRefused:
    return LedgerRefused(
        (
            f"instance {row.instance}, entry {row.index}: it is not the one that was indexed; verify the ledger, and make"
            " the index again from a whole copy",
        )
    )
