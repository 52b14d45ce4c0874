"""Reading a stretch of one partition, from an offset up to another, with a consumer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange, Place
from broker.errors import StorageUnavailable

_ANSWER_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One Kafka record; `value` None marks a deletion in a compacted topic."""

    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None


async def read_span(
    connection: KafkaConnection, topic: str, begin: int, end: int, partition: int = 0
) -> AsyncIterator[Entry]:
    """The entries with begin <= offset < end, in order; raises StorageUnavailable.

    The entry at end - 1 must exist: Kafka's compaction never removes a log's last record.
    """
    async for entries in read_polls(connection, topic, begin, end, partition):
        for entry in entries:
            yield entry


async def read_polls(
    connection: KafkaConnection, topic: str, begin: int, end: int, partition: int = 0
) -> AsyncIterator[Sequence[Entry]]:
    """As `read_span`, poll by poll, each of bounded size."""
    if begin >= end:
        return
    arrived: asyncio.Queue[Sequence[Batch[Entry]] | OutOfRange] = asyncio.Queue()
    follower = Follower[Entry](connection, to_entries, arrived.put_nowait, name="span")
    await follower.start()
    try:
        follower.follow({(topic, partition): begin})
        while begin < end:
            for batch in await _next(arrived):
                wanted = [entry for entry in batch.items if entry.offset < end]
                begin = batch.items[-1].offset + 1
                if wanted:
                    yield wanted
                follower.release(batch.size)
    finally:
        await follower.close()


def to_entries(place: Place, records: Sequence[Any]) -> tuple[Sequence[Entry], int]:
    """A consumer's messages as entries, and their bytes."""
    entries = [Entry(r.offset(), r.timestamp()[1], r.key() or b"", r.value()) for r in records]
    return entries, sum(len(entry.key) + len(entry.value or b"") for entry in entries)


async def _next(arrived: asyncio.Queue[Sequence[Batch[Entry]] | OutOfRange]) -> Sequence[Batch[Entry]]:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            news = await arrived.get()
    except TimeoutError as error:
        raise StorageUnavailable("Kafka sent nothing; read again") from error
    if isinstance(news, OutOfRange):
        raise StorageUnavailable("the topic no longer holds the position")
    return news
