"""Reading ledgers from Kafka; needs the rights DESCRIBE and READ on the two topics, and no consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.ledger_records import Fold, by_owner, read_checkpoint, read_claim
from broker.adapters.kafka.span import read_polls, read_span
from broker.errors import StorageUnavailable
from broker.model.ledger import ReadEntries, ReadPoint, StoredCheckpoint


class KafkaLedgerReader:
    """Implements the LedgerReader port; belongs to the event loop that opened it."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._topic = connection.topic("ledger")
        self._checkpoints = connection.topic("ledger-checkpoints")
        self._admin = ClusterAdmin(connection)

    @classmethod
    async def open(cls, connection: KafkaConnection) -> KafkaLedgerReader:
        """Raises StorageUnavailable, also if there is no ledger."""
        reader = cls(connection)
        try:
            for topic in (reader._topic, reader._checkpoints):
                if await reader._admin.find_topic(topic) is None:
                    raise StorageUnavailable(
                        f"Kafka holds no topic '{topic}', or these credentials may not describe it; correct the prefix"
                    )
        except BaseException:
            await reader.close()
            raise
        return reader

    async def instances(self) -> Sequence[str]:
        """See LedgerReader."""
        return sorted(await self._owners())

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """See LedgerReader."""
        partition = (await self._owners()).get(instance)
        if partition is None:
            return
        begins, ends = await self._bounds()
        fold = Fold(instance, point)
        begin = max(point.store, begins[partition])
        async for records in read_polls(self._connection, self._topic, begin, ends[partition], partition):
            yield ReadEntries(fold.take(records), fold.point)

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """See LedgerReader."""
        (begin,) = await self._admin.offsets(self._checkpoints, 1, OffsetSpec.EARLIEST)
        (end,) = await self._admin.offsets(self._checkpoints, 1, OffsetSpec.LATEST)
        async for record in read_span(self._connection, self._checkpoints, max(begin, place), end):
            if record.key == instance.encode():
                yield replace(read_checkpoint(record.value), next_place=record.offset + 1)

    async def close(self) -> None:
        """See LedgerReader. Ends all threads."""
        await self._admin.close()

    async def _bounds(self) -> tuple[Sequence[int], Sequence[int]]:
        """Where each partition of the ledger's topic begins and ends now."""
        info = await self._admin.find_topic(self._topic)
        if info is None:
            raise StorageUnavailable(f"the topic '{self._topic}' is gone; restore it from a copy")
        begins = await self._admin.offsets(self._topic, info.partitions, OffsetSpec.EARLIEST)
        return begins, await self._admin.offsets(self._topic, info.partitions, OffsetSpec.LATEST)

    async def _owners(self) -> dict[str, int]:
        """Each instance's partition."""
        begins, ends = await self._bounds()
        used = [number for number, (begin, end) in enumerate(zip(begins, ends, strict=True)) if begin < end]
        names = await asyncio.gather(*(self._owner(number, begins[number], ends[number]) for number in used))
        return by_owner((number, name) for name, number in zip(names, used, strict=True) if name is not None)

    async def _owner(self, partition: int, begin: int, end: int) -> str | None:
        """Whose a partition is: the first entry's, since only the owner writes any; without entries the first claim's."""
        first: bytes | None = None
        async for record in read_span(self._connection, self._topic, begin, end, partition):
            if read_claim(record.value) is None:
                return record.key.decode(errors="replace")
            first = record.key if first is None else first
        return None if first is None else first.decode(errors="replace")
