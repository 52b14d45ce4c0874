"""The LedgerLog port in memory, with claims that void and outcomes that a test decides; and writers over any log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.ledger.heading import read_heading
from broker.core.ledger.rebuild import Rebuilt, rebuild
from broker.core.ledger.signing import LedgerKeys, origin_of
from broker.core.ledger.writer import LedgerWriter
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerFenced, StorageUnavailable
from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerLog, LedgerReader

EXCHANGE = "test"
PAGE = 3


@dataclass
class MemoryStore:
    """What several logs share: one list of claims and entries for each instance, and the checkpoints."""

    records: dict[str, list[EncodedEntry | int]] = field(default_factory=dict)
    stored: dict[str, list[StoredCheckpoint]] = field(default_factory=dict)

    def entries(self, instance: str = "broker") -> list[EncodedEntry]:
        """What counts, in order."""
        epoch, found = 0, []
        for record in self.records.get(instance, []):
            if isinstance(record, int):
                epoch = record
                continue
            heading = read_heading(record.leaf)
            if heading is None or heading.epoch >= epoch:
                found.append(record)
        return found


class MemoryLedgerLog:
    """hold: appends wait until it is set. faults: what the next appends raise, in order. broken: checkpoints are refused."""

    def __init__(self, store: MemoryStore | None = None, instance: str = "broker") -> None:
        self.store = store or MemoryStore()
        self.instance = instance
        self.epoch = 0
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.faults: list[Exception] = []
        self.flights: list[int] = []
        self.broken = False
        self.refusals = 0
        self.expired_before: list[int] = []

    async def instances(self) -> Sequence[str]:
        return sorted(self.store.records)

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        entries = self.store.entries(instance)
        for at in range(point.store, len(entries), PAGE):
            page = tuple(entries[at : at + PAGE])
            yield ReadEntries(page, ReadPoint(at + len(page), self.epoch, at + len(page)))

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        for number, checkpoint in enumerate(self.store.stored.get(instance, [])[place:], place):
            yield replace(checkpoint, next_place=number + 1)

    async def claim(self) -> int:
        records = self.store.records.setdefault(self.instance, [])
        self.epoch = 1 + max((record for record in records if isinstance(record, int)), default=0)
        records.append(self.epoch)
        return self.epoch

    async def append(self, entries: Sequence[EncodedEntry]) -> None:
        self.flights.append(len(entries))
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        records = self.store.records[self.instance]
        newest = max(record for record in records if isinstance(record, int))
        records.extend(entries)
        if newest != self.epoch:
            raise LedgerFenced("a newer instance writes")

    async def put_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        await asyncio.sleep(0)
        if self.broken:
            self.refusals += 1
            raise StorageUnavailable("scripted")
        self.store.stored.setdefault(self.instance, []).append(checkpoint)

    async def expire(self, before_ms: int) -> None:
        self.expired_before.append(before_ms)

    async def close(self) -> None:
        return None


class TestKeys:
    """Keys of the use "ledger" by id; the last one given is the current one."""

    __test__ = False

    def __init__(self, *ids: int) -> None:
        self._ids = ids or (0,)

    def current(self, use: str) -> tuple[int, bytes]:
        return self._ids[-1], self._key(self._ids[-1])

    def by_id(self, use: str, key_id: int) -> bytes | None:
        return self._key(key_id) if key_id in self._ids else None

    def _key(self, key_id: int) -> bytes:
        return bytes([key_id + 1]) * 32


async def rebuilt_of(
    reader: LedgerReader, instance: str = "broker", *, keys: TestKeys | None = None, retention: bool = False
) -> Rebuilt:
    """What a start finds; raises LedgerRefused."""
    signing = LedgerKeys(keys or TestKeys(), EXCHANGE)
    origin = origin_of(EXCHANGE, instance)
    return await rebuild(reader, instance, origin=origin, keys=signing.known, retention=retention)


def checkpoint_of(entries: Sequence[EncodedEntry], instance: str = "broker") -> StoredCheckpoint:
    """What the exchange would have stored over these entries."""
    tree = CompactTree()
    tree.extend(leaf_hash(entry.leaf) for entry in entries)
    origin = origin_of(EXCHANGE, instance)
    signer = LedgerKeys(TestKeys(), EXCHANGE).signer(origin, 0)
    note = sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), [signer])
    return StoredCheckpoint(note, tree.frontier)


class OpenedWriter(LedgerWriter):
    """A writer that closes its log, too."""

    log: LedgerLog

    async def close(self) -> None:
        await super().close()
        await self.log.close()


async def open_writer(log: LedgerLog, instance: str = "broker", **options: float) -> OpenedWriter:
    """Claims, rebuilds, and writes on. options: those of LedgerWriter."""
    epoch = await log.claim()
    rebuilt = await rebuilt_of(log, instance)
    writer = OpenedWriter(log, instance, epoch, rebuilt.tree, **options)  # type: ignore[arg-type]
    writer.log = log
    return writer
