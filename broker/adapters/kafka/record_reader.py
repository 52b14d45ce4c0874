"""Reading records from Kafka; needs the rights DESCRIBE and READ on the records' topics, and no consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.span import read_polls
from broker.model.record import StoredRecord


class KafkaRecordReader:
    """Implements the StoredRecords port; belongs to the event loop that made it."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._admin = ClusterAdmin(connection)

    async def read(self, topic: str) -> AsyncIterator[Sequence[StoredRecord]]:
        """See StoredRecords."""
        name = self._connection.topic("records", topic)
        info = await self._admin.find_topic(name)
        if info is None:
            return
        begins = await self._admin.offsets(name, info.partitions, OffsetSpec.EARLIEST)
        ends = await self._admin.offsets(name, info.partitions, OffsetSpec.LATEST)
        for partition, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            async for entries in read_polls(self._connection, name, begin, end, partition):
                yield [
                    StoredRecord(partition, entry.offset, entry.timestamp_ms, entry.value)
                    for entry in entries
                    if entry.value is not None
                ]

    async def close(self) -> None:
        """See StoredRecords. Ends all threads."""
        await self._admin.close()
