"""Reading a stretch of a topic of one partition, from an offset up to another, with a consumer of its own."""

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


async def read_span(connection: KafkaConnection, topic: str, begin: int, end: int) -> AsyncIterator[Entry]:
    """The entries of partition 0 with begin <= offset < end, in order; raises StorageUnavailable.

    The entry at end - 1 must exist: Kafka's compaction never removes a log's last record.
    """
    if begin >= end:
        return
    arrived: asyncio.Queue[Sequence[Batch[Entry]] | OutOfRange] = asyncio.Queue()
    follower = Follower[Entry](connection, to_entries, arrived.put_nowait, name="span")
    await follower.start()
    try:
        follower.follow({(topic, 0): begin})
        while begin < end:
            for batch in await _next(arrived):
                for entry in batch.items:
                    begin = entry.offset + 1
                    if begin <= end:
                        yield entry
                follower.release(batch.size)
    finally:
        await follower.close()


def to_entries(place: Place, records: Sequence[Any]) -> tuple[Sequence[Entry], int]:
    """kafka-python's records as entries, and their bytes."""
    entries = [Entry(r.offset, r.timestamp, r.key or b"", r.value) for r in records]
    return entries, sum(len(entry.key) + len(entry.value or b"") for entry in entries)


async def _next(arrived: asyncio.Queue[Sequence[Batch[Entry]] | OutOfRange]) -> Sequence[Batch[Entry]]:
    try:
        news = await asyncio.wait_for(arrived.get(), _ANSWER_TIMEOUT_S)
    except TimeoutError as error:
        raise StorageUnavailable("Kafka sent nothing; read again") from error
    if isinstance(news, OutOfRange):
        raise StorageUnavailable("the topic no longer holds the position")
    return news
