"""The record log on Kafka: topic `<prefix>.records.<topic>`, CloudEvents in structured mode.

Value: the body. Key: the partition key. One header, `content-type: application/cloudevents+protobuf`. Timestamp: the
record's `recordedtime` (CreateTime). Incarnation: Kafka's topic id (KIP-516).

One tail thread reads all partitions of all open topics, keeps the newest records in memory (`ring_bytes` in all) and
feeds the duplicates index; so the index covers what other instances stored, a few milliseconds late.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import KEEP_FOR_GOOD, ClusterAdmin
from broker.adapters.kafka.appends import Appends
from broker.adapters.kafka.catch_up import CatchUpPool, OutOfRetention
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange, Place
from broker.adapters.kafka.outbox import Outbox
from broker.adapters.kafka.shared_chunks import SharedChunks
from broker.adapters.kafka.topic_tail import Arrival, Fingerprint, TopicTail
from broker.errors import PositionExpired, StorageUnavailable
from broker.model.record import AppendResult, Chunk, LogTopic, NewRecord, Positions, StoredRecord
from broker.model.registry import Topic

log = logging.getLogger(__name__)

INDEX_RECORDS = 1_000_000
RING_BYTES = 64 * 1024 * 1024
_CHECK_S = 10.0
_STALL_S = 20.0


class KafkaRecordLog:
    """Implements the RecordLog port; belongs to the event loop that opened it."""

    def __init__(
        self,
        connection: KafkaConnection,
        fingerprint: Callable[[bytes], Fingerprint],
        *,
        index_records: int,
        ring_bytes: int,
        append_timeout_s: float,
    ) -> None:
        self._fingerprint = fingerprint
        self._index_records = index_records
        self._ring_bytes = ring_bytes
        self._connection = connection
        self._admin = ClusterAdmin(connection)
        self._outbox = Outbox(connection)
        self._appends = Appends(self._outbox, self._latest, timeout_s=append_timeout_s)
        self._follower = Follower[Arrival](
            connection, self._convert, self._arrived, name="tail", poll_records=2_000
        )
        self._catch_up = CatchUpPool(connection)
        self._shared = SharedChunks()
        self._topics: dict[str, TopicTail] = {}
        self._by_kafka_name: dict[str, TopicTail] = {}
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        connection: KafkaConnection,
        *,
        fingerprint: Callable[[bytes], Fingerprint],
        index_records: int = INDEX_RECORDS,
        ring_bytes: int = RING_BYTES,
        append_timeout_s: float = 10.0,
    ) -> KafkaRecordLog:
        """Connect; raises StorageUnavailable if the cluster cannot be reached.

        fingerprint: a stored body's identity and digest (16 bytes each), as NewRecord defines them.
        index_records: how many of a topic's newest records the duplicates index holds.
        append_timeout_s: after that an append raises StorageUnavailable; its records may still be stored, and a
        repetition joins them.
        """
        opened = cls(
            connection,
            fingerprint,
            index_records=index_records,
            ring_bytes=ring_bytes,
            append_timeout_s=append_timeout_s,
        )
        try:
            await opened._follower.start()
            await opened._outbox.start()
        except BaseException:
            await opened.close()
            raise
        opened._spawn(opened._tend())
        return opened

    async def open_topic(self, topic: Topic) -> LogTopic:
        """See RecordLog. Returns once the duplicates index has been rebuilt."""
        async with self._opening:
            kafka_name = self._connection.topic("records", topic.name)
            retention = KEEP_FOR_GOOD if topic.retention_s is None else str(topic.retention_s * 1000)
            settings = {"retention.ms": retention, "cleanup.policy": "delete"}
            found = await self._admin.ensure_topic(kafka_name, topic.partitions, settings)
            tail = self._topics.get(topic.name)
            if tail is None or tail.gone or tail.info.incarnation != found.incarnation:
                tail = await self._begin(
                    LogTopic(topic.name, found.partitions, found.incarnation), kafka_name
                )
            await self._load(tail)
            return tail.info

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        """See RecordLog."""
        return await self._appends.append(self._tail(topic), records)

    async def read(
        self, topic: str, positions: Positions, *, max_records: int, max_bytes: int, wait_s: float
    ) -> Chunk:
        """See RecordLog. Raises ValueError unless there is one position for each partition."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            tail = self._tail(topic)
            if tail.is_expired(positions):
                raise PositionExpired(await self.start_positions(topic))
            if not tail.covers(positions):
                return await self._read_old(tail, positions, max_records, max_bytes)
            chunk = tail.take(positions, max_records, max_bytes)
            if chunk.records or loop.time() >= until:
                return chunk
            await tail.news(until - loop.time())

    async def start_positions(self, topic: str) -> Positions:
        """See RecordLog."""
        tail = self._tail(topic)
        tail.retain_from(await self._offsets(tail, OffsetSpec.EARLIEST))
        return tail.log_starts

    async def end_positions(self, topic: str) -> Positions:
        """See RecordLog."""
        return await self._latest(self._tail(topic))

    async def positions_at(self, topic: str, time_ms: int) -> Positions:
        """See RecordLog."""
        tail = self._tail(topic)
        ends = await self._latest(tail)
        found = await self._offsets(tail, max(time_ms, 0))
        return tuple(end if offset < 0 else offset for offset, end in zip(found, ends, strict=True))

    async def close(self) -> None:
        """See RecordLog. Ends all threads."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tail in self._topics.values():
            tail.wake()
        await self._outbox.close()
        await self._appends.close()
        await self._shared.close()
        await self._catch_up.close()
        await self._follower.close()
        await self._admin.close()

    def _tail(self, topic: str) -> TopicTail:
        tail = self._topics.get(topic)
        if self._closed or tail is None or tail.gone:
            raise StorageUnavailable(f"topic '{topic}' is not open, or was deleted; open it again")
        return tail

    async def _begin(self, info: LogTopic, kafka_name: str) -> TopicTail:
        """Follow a topic from where the index begins: its newest records, each partition in its proportion."""
        starts = await self._admin.offsets(kafka_name, info.partitions, OffsetSpec.EARLIEST)
        ends = await self._admin.offsets(kafka_name, info.partitions, OffsetSpec.LATEST)
        total = max(sum(ends) - sum(starts), self._index_records)
        begin = tuple(
            end - (end - start) * self._index_records // total
            for start, end in zip(starts, ends, strict=True)
        )
        tail = TopicTail(info, kafka_name, begin, starts, index_records=self._index_records)
        self._topics[info.name] = self._by_kafka_name[kafka_name] = tail
        partitions = sum(each.info.partitions for each in self._topics.values())
        for each in self._topics.values():
            each.ring_limit_bytes = self._ring_bytes // partitions
        self._follower.follow({(kafka_name, number): offset for number, offset in enumerate(begin)})
        return tail

    async def _load(self, tail: TopicTail) -> None:
        """Wait until the tail has reached the present end; raises StorageUnavailable if it stands still."""
        ends = await self._latest(tail)
        while not tail.reached(ends):
            before = [ring.end for ring in tail.rings]
            await tail.news(_STALL_S)
            if before == [ring.end for ring in tail.rings] or tail.gone or self._closed:
                raise StorageUnavailable(f"the log of topic '{tail.info.name}' could not be read; try again")

    async def _read_old(
        self, tail: TopicTail, positions: Positions, max_records: int, max_bytes: int
    ) -> Chunk:
        try:
            key = (tail.info.incarnation, positions, max_records, max_bytes)
            read = partial(self._catch_up.read, tail.kafka_name, positions, max_records, max_bytes)
            return await self._shared.read(key, read)
        except OutOfRetention as error:
            starts = await self.start_positions(tail.info.name)
            if tail.is_expired(positions):
                raise PositionExpired(starts) from error
            raise StorageUnavailable(
                f"topic '{tail.info.name}' does not hold the position now; try again"
            ) from error

    async def _offsets(self, tail: TopicTail, at: int | OffsetSpec) -> Positions:
        return await self._admin.offsets(tail.kafka_name, tail.info.partitions, at)

    async def _latest(self, tail: TopicTail) -> Positions:
        return await self._offsets(tail, OffsetSpec.LATEST)

    def _convert(self, place: Place, records: Sequence[Any]) -> tuple[Sequence[Arrival], int]:
        """In the tail's thread. What this instance stored itself is indexed already and need not be parsed."""
        name, partition = place
        tail = self._by_kafka_name[name]
        held = tail.rings[partition].end
        arrivals: list[Arrival] = []
        size = 0
        for each in records:
            offset = each.offset()
            if offset >= held:
                body = each.value() or b""
                stored = StoredRecord(partition, offset, each.timestamp()[1], body)
                arrivals.append((stored, self._fingerprint_of(body)))
                size += len(body)
        return arrivals, size

    def _fingerprint_of(self, body: bytes) -> Fingerprint | None:
        """None for a body that has none: something else than this exchange wrote it."""
        try:
            return self._fingerprint(body)
        except Exception as error:  # noqa: BLE001 - a foreign record must neither stop the tail nor be skipped by it
            log.warning("a stored record has no fingerprint: %s", type(error).__name__)
            return None

    def _arrived(self, news: Sequence[Batch[Arrival]] | OutOfRange) -> None:
        if isinstance(news, OutOfRange):
            tail = self._by_kafka_name[news.place[0]]
            self._spawn(self._find_again(tail, news.place))
            return
        for batch in news:
            self._by_kafka_name[batch.place[0]].arrive(batch.place[1], batch.items)
            self._follower.release(batch.size)

    async def _find_again(self, tail: TopicTail, place: Place) -> None:
        """The tail fell out of the log: retention overtook it, or the topic was deleted (then it must be opened again)."""
        try:
            starts, ends = await self._offsets(tail, OffsetSpec.EARLIEST), await self._latest(tail)
        except StorageUnavailable:
            self._follower.follow({place: tail.rings[place[1]].end})
            return
        tail.retain_from(starts)
        if tail.rings[place[1]].end > ends[place[1]]:
            tail.gone = True
        else:
            self._follower.follow({place: tail.rings[place[1]].end})
        tail.wake()

    async def _tend(self) -> None:
        """Now and then learn what retention removed and whether topics are still the same; let idle readers go."""
        while True:
            await asyncio.sleep(_CHECK_S)
            self._shared.clear()  # what retention removed is not served for long
            await self._catch_up.tidy()
            for tail in list(self._topics.values()):
                with contextlib.suppress(StorageUnavailable):
                    await self.check(tail.info.name)

    async def check(self, topic: str) -> None:
        """Learn what retention removed; if the topic was deleted or made anew, refuse it until it is opened again."""
        tail = self._tail(topic)
        found = await self._admin.find_topic(tail.kafka_name)
        if found is None or found.incarnation != tail.info.incarnation:
            tail.gone = True
            tail.wake()
        else:
            await self.start_positions(topic)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
