"""The index of ledgers in one SQLite file: the AuditIndex port, in an export or in a broker's data directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from broker.adapters.export.index_file import FinishedFile
from broker.adapters.export.index_read import (
    find_number,
    read_coverage,
    read_covering,
    read_entries,
    read_entry,
    read_latest,
    read_point,
)
from broker.adapters.export.index_seen import (
    find_names,
    find_publications,
    find_receptions,
    find_sightings,
)
from broker.adapters.export.index_tree import prove_consistency, prove_inclusion
from broker.adapters.export.index_write import Indexer, add_checkpoints, begin_instance
from broker.adapters.export.schema import SCHEMA
from broker.adapters.sqlite.database import Database
from broker.core.audit.pieces import PIECE_BYTES, PIECE_ENTRIES, PieceReader, base_of, first_index
from broker.core.audit.segments import Segment
from broker.core.ledger.signing import origin_of
from broker.core.merkle.tree import CompactTree
from broker.errors import StorageUnavailable
from broker.model.audit import (
    Coverage,
    EntryQuery,
    EntryRow,
    Progress,
    ProgressCallback,
    Publication,
    Reception,
    Sighting,
)
from broker.model.ledger import EncodedEntry, ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerReader

_CHECKPOINTS_AT_ONCE = 1_000


class SqliteAuditIndex:
    """Implements broker.ports.audit_index.AuditIndex; work is done in threads of its own."""

    def __init__(self, file: Database | FinishedFile, exchange: str) -> None:
        self._file = file
        self._exchange = exchange
        self._indexer = Indexer()

    @classmethod
    async def open(cls, path: Path, exchange: str = "", *, read_only: bool = False) -> SqliteAuditIndex:
        """Open or create the file; one process writes at a time. Raises StorageUnavailable.

        exchange: the exchange's name, for the origins of checkpoints; not needed to read only.
        """
        if read_only:
            return cls(await FinishedFile.open(path), exchange)
        return cls(await Database.open(path, SCHEMA), exchange)

    async def update(self, reader: LedgerReader, progress: ProgressCallback | None = None) -> None:
        """See AuditIndex."""
        file = self._file
        if isinstance(file, FinishedFile):
            raise StorageUnavailable(f"{file.path} is open for reading only")
        done = 0
        for instance in await reader.instances():
            done = await self._update_entries(file, reader, instance, progress, done)
            await self._update_checkpoints(file, reader, instance)

    async def coverage(self) -> Sequence[Coverage]:
        """See AuditIndex."""
        return await self._file.read(read_coverage)

    async def point(self, instance: str, index: int) -> ReadPoint:
        """See AuditIndex."""
        return await self._file.read(partial(read_point, instance=instance, index=index))

    async def entry(self, instance: str, index: int) -> EntryRow | None:
        """See AuditIndex."""
        return await self._file.read(partial(read_entry, instance=instance, index=index))

    async def entries(self, query: EntryQuery) -> Sequence[EntryRow]:
        """See AuditIndex."""
        return await self._file.read(partial(read_entries, query=query))

    async def inclusion_proof(self, instance: str, index: int, size: int) -> Sequence[bytes]:
        """See AuditIndex."""
        return await self._file.read(partial(prove_inclusion, name=instance, index=index, size=size))

    async def consistency_proof(self, instance: str, old_size: int, new_size: int) -> Sequence[bytes]:
        """See AuditIndex."""
        return await self._file.read(partial(prove_consistency, name=instance, old=old_size, new=new_size))

    async def checkpoint_covering(self, instance: str, index: int) -> StoredCheckpoint | None:
        """See AuditIndex."""
        return await self._file.read(partial(read_covering, instance=instance, index=index))

    async def latest_checkpoint(self, instance: str) -> StoredCheckpoint | None:
        """See AuditIndex."""
        return await self._file.read(partial(read_latest, instance=instance))

    async def publications(self, source: str, record_id: str) -> Sequence[Publication]:
        """See AuditIndex."""
        return await self._file.read(partial(find_publications, source=source, record_id=record_id))

    async def sightings(self, source: str, record_id: str) -> Sequence[Sighting]:
        """See AuditIndex."""
        return await self._file.read(partial(find_sightings, source=source, record_id=record_id))

    async def names(
        self, topic: str, places: Sequence[tuple[int, int]]
    ) -> Mapping[tuple[int, int], tuple[str, str]]:
        """See AuditIndex."""
        return await self._file.read(partial(find_names, topic=topic, places=places))

    async def receptions(
        self, agency: str, topic: str | None = None, zone_minutes: int = 0, owner: str | None = None
    ) -> Sequence[Reception]:
        """See AuditIndex."""
        return await self._file.read(
            partial(find_receptions, agency=agency, topic=topic, zone_minutes=zone_minutes, owner=owner)
        )

    async def revisions(self) -> Sequence[str]:
        """The rulebook revisions that entries name, sorted."""
        return await self._file.read(_revisions)

    async def close(self) -> None:
        """See AuditIndex."""
        await self._file.close()

    async def _update_entries(
        self,
        file: Database,
        reader: LedgerReader,
        instance: str,
        progress: ProgressCallback | None,
        done: int,
    ) -> int:
        number = await file.read(partial(find_number, instance=instance))
        if number is None and isinstance(reader, PieceReader):
            number = await self._begin(file, instance, reader.base(instance), reader.tail(instance))
        held, size, at = list[EncodedEntry](), 0, ReadPoint()
        start = ReadPoint() if number is None else await file.read(partial(_next_point, number=number))
        skipped = 0
        async for read in reader.read(instance, start):
            if number is None and read.entries:
                base = await base_of(reader, instance, read.entries[0])
                skipped = base.size - first_index(read.entries[0])
                number = await self._begin(file, instance, base, None)
            entries, skipped = read.entries[skipped:], max(0, skipped - len(read.entries))
            held.extend(entries)
            size += sum(len(entry.leaf) + len(entry.openings) for entry in entries)
            at = read.next
            if number is not None and (len(held) >= PIECE_ENTRIES or size >= PIECE_BYTES):
                done = await self._add(file, number, held, at, progress, done)
                held, size = [], 0
        if number is not None and held:
            done = await self._add(file, number, held, at, progress, done)
        return done

    async def _add(
        self,
        file: Database,
        number: int,
        held: list[EncodedEntry],
        at: ReadPoint,
        progress: ProgressCallback | None,
        done: int,
    ) -> int:
        def work(connection: sqlite3.Connection) -> None:
            self._indexer.add(connection, number, held, at)

        try:
            await file.write(work)
        except BaseException:
            self._indexer.forget()
            raise
        if progress is not None:
            progress(Progress("indexing", done + len(held)))
        return done + len(held)

    async def _begin(self, file: Database, instance: str, base: CompactTree, tail: Segment | None) -> int:
        origin = origin_of(self._exchange, instance)
        return await file.write(partial(begin_instance, name=instance, origin=origin, base=base, tail=tail))

    async def _update_checkpoints(self, file: Database, reader: LedgerReader, instance: str) -> None:
        number = await file.read(partial(find_number, instance=instance))
        if number is None:
            return
        place = await file.read(partial(_next_checkpoint, number=number))
        held: list[StoredCheckpoint] = []
        async for stored in reader.checkpoints(instance, place):
            held.append(stored)
            if len(held) >= _CHECKPOINTS_AT_ONCE:
                await file.write(partial(add_checkpoints, instance=number, stored=held))
                held = []
        if held:
            await file.write(partial(add_checkpoints, instance=number, stored=held))


def _next_point(connection: sqlite3.Connection, number: int) -> ReadPoint:
    row = connection.execute(
        "SELECT store, epoch, next FROM instances WHERE number = ?", (number,)
    ).fetchone()
    return ReadPoint(*row)


def _next_checkpoint(connection: sqlite3.Connection, number: int) -> int:
    row = connection.execute("SELECT next_checkpoint FROM instances WHERE number = ?", (number,)).fetchone()
    return int(row[0])


def _revisions(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT revision FROM rules WHERE revision IS NOT NULL ORDER BY 1")
    return [revision for (revision,) in rows]
