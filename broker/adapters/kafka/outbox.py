"""Sending with a known order: per partition one flight after another, pipelined across partitions.

A producer buffers much and forgets what it gave up, so:

* `room` holds callers back while more than `limit_bytes` wait or fly.
* The producer's delivery timeout is a day. Until then a flight is sent again under the same producer id and sequence
  numbers, which Kafka stores once (KIP-98). A caller may stop waiting; the flight goes on and its outcome still
  becomes known here, so that the caller's repetition can join it instead of being stored twice.
* A flight leaves only when the one before it has landed, so a failure never lets later records of a partition overtake.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaException

from broker.adapters.kafka.clients import connected_producer, error_name
from broker.adapters.kafka.connection import MAX_RECORD_BYTES, KafkaConnection
from broker.adapters.kafka.flight import Flight, SendFailed
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

FLIGHT_BYTES = 1024 * 1024
FLIGHT_RECORDS = 4_000
LARGEST_BYTES = MAX_RECORD_BYTES - FLIGHT_BYTES
"""The largest message, and the largest job of an atomic outbox."""

_OVERHEAD_BYTES = 200
_CLOSE_TIMEOUT_S = 5.0
_POLL_S = 0.1
_LINGER_MS = 0.5
"""So that a flight is few batches: without it the library's thread sends the first message alone."""
_UNTIL_FLUSHED_MS = 60_000


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka record to send."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes in buffers."""
        return len(self.key or b"") + len(self.value or b"") + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class _Job:
    messages: Sequence[Message]
    size: int
    landed: asyncio.Future[list[int]]


class _Lane:
    """One partition: what waits and what flies."""

    __slots__ = ("flying", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[_Job] = deque()
        self.flying: list[_Job] = []

    def next_flight(self) -> list[_Job]:
        """Take whole jobs up to one flight's size, at least one."""
        size = count = 0
        while self.waiting and (not self.flying or (size < FLIGHT_BYTES and count < FLIGHT_RECORDS)):
            job = self.waiting.popleft()
            size, count = size + job.size, count + len(job.messages)
            self.flying.append(job)
        return self.flying


class Outbox:
    """One producer with its own thread; all methods belong to the event loop that made it.

    `atomic`: each flight is one Kafka batch, which the log takes whole or not at all. That blocks the thread until the
    flight has landed, so it is for topics of one partition.
    """

    def __init__(
        self, connection: KafkaConnection, *, limit_bytes: int = 32 * 1024 * 1024, atomic: bool = False
    ) -> None:
        self._connection = connection
        self._atomic = atomic
        self._limit_bytes = limit_bytes
        self.held_bytes = 0
        """Bytes that wait or fly."""
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "kafka-outbox")
        self._loop = asyncio.get_running_loop()
        self._producer: Any = None
        self._is_spoilt = False
        self._closed = False

    async def start(self) -> None:
        """Make the producer, once, before anything is enqueued; raises StorageUnavailable, and may be tried again."""
        if self._producer is None:
            await self._loop.run_in_executor(self._thread, self._connect)
            if not self._atomic:
                self._thread.submit(self._serve)

    async def room(self) -> None:
        """Return, in the order of the calls, when there is room to enqueue. The caller bounds the wait.

        Enqueue without awaiting anything in between (so no `wait_for` around this, which would make a task of it), or
        many callers would see the same room.
        """
        if not self._queue and self.held_bytes < self._limit_bytes:
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(turn)
        try:
            await turn
        finally:
            self._queue.remove(turn)
            self._admit()

    def enqueue(self, topic: str, partition: int, messages: Sequence[Message]) -> asyncio.Future[list[int]]:
        """Send in order after all that was enqueued for this partition before; the future gives their offsets.

        The messages travel in one flight. It fails with SendFailed. An offset is -1 where Kafka knows the message as
        stored but no longer says where.
        Raises ValueError for a message larger than the topic takes, StorageUnavailable once closed.
        """
        if self._closed:
            raise StorageUnavailable("the Kafka store is closed")
        job = _Job(messages, sum(message.size for message in messages), self._loop.create_future())
        if (job.size if self._atomic else max(message.size for message in messages)) > LARGEST_BYTES:
            raise ValueError(f"more than Kafka's limit of {LARGEST_BYTES} bytes at once")
        job.landed.add_done_callback(_retrieve)
        self.held_bytes += job.size
        lane = self._lanes.setdefault((topic, partition), _Lane(topic, partition))
        lane.waiting.append(job)
        self._take_off(lane)
        return job.landed

    async def close(self) -> None:
        """Wait a few seconds for what flies, fail the rest, end all threads; idempotent."""
        if self._closed:
            return
        self._closed = True
        for lane in self._lanes.values():
            waiting, lane.waiting = list(lane.waiting), deque()
            self._finish(waiting, SendFailed("the Kafka store was closed", stored=False))
        await self._loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=True)
        for lane in self._lanes.values():
            self._finish(lane.flying, SendFailed("the Kafka store was closed", stored=None))

    def _take_off(self, lane: _Lane) -> None:
        if lane.flying or not lane.waiting or self._closed:
            return
        jobs = lane.next_flight()
        messages = [message for job in jobs for message in job.messages]
        if self._atomic:
            self._thread.submit(self._transmit_whole, lane, messages)
        else:
            self._transmit(lane, messages)

    def _transmit(self, lane: _Lane, messages: Sequence[Message]) -> Flight:
        """Hand a flight to the producer, which never blocks."""
        flight = Flight(len(messages), partial(self._report, lane))
        produce, topic, partition = self._producer.produce, lane.topic, lane.partition
        sent = 0
        try:
            for message in messages:
                headers, time_ms = list(message.headers), message.timestamp_ms or 0
                produce(
                    topic, message.value, message.key, partition, flight.told, flight.told, time_ms, headers
                )
                sent += 1
        except (KafkaException, BufferError) as error:
            name = error_name(error) if isinstance(error, KafkaException) else "BufferError"
            flight.land(SendFailed(f"Kafka did not take it: {name}", stored=None if sent else False))
        return flight

    def _transmit_whole(self, lane: _Lane, messages: Sequence[Message]) -> None:
        """In the outbox thread: nothing leaves before the flush, so the flight is one batch."""
        flight = self._transmit(lane, messages)
        while not (flight.landed or self._closed):
            self._producer.flush(1.0)
            self._renew_if_spoilt()

    def _serve(self) -> None:
        """In the outbox thread: learn what became of flights."""
        while not self._closed:
            self._producer.poll(_POLL_S)
            self._renew_if_spoilt()

    def _report(self, lane: _Lane, outcome: list[int] | SendFailed) -> None:
        """In any thread: tell the event loop, unless that has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._landed, lane, outcome)

    def _landed(self, lane: _Lane, outcome: list[int] | SendFailed) -> None:
        jobs, lane.flying = lane.flying, []
        self._finish(jobs, outcome)
        self._take_off(lane)

    def _finish(self, jobs: Sequence[_Job], outcome: list[int] | SendFailed) -> None:
        begin = 0
        for job in jobs:
            self.held_bytes -= job.size
            end = begin + len(job.messages)
            if not job.landed.done():
                if isinstance(outcome, SendFailed):
                    job.landed.set_exception(outcome)
                else:
                    job.landed.set_result(outcome[begin:end])
            begin = end
        self._admit()

    def _admit(self) -> None:
        """Let the first waiting caller in; it leaves the queue when it runs, so that nobody slips in before it."""
        if self._queue and self.held_bytes < self._limit_bytes and not self._queue[0].done():
            self._queue[0].set_result(None)

    def _connect(self) -> None:
        # A batch takes more than a flight, so that an atomic one is one.
        self._producer = connected_producer(
            self._connection,
            linger_ms=_UNTIL_FLUSHED_MS if self._atomic else _LINGER_MS,
            batch_bytes=MAX_RECORD_BYTES if self._atomic else FLIGHT_BYTES,
            fatal=self._spoil,
        )

    def _spoil(self) -> None:
        self._is_spoilt = True

    def _renew_if_spoilt(self) -> None:
        """After a fatal error a producer takes nothing more: what flies has an unknown outcome, and another one follows."""
        if not self._is_spoilt or self._closed:
            return
        self._producer.purge()
        self._producer.flush(_CLOSE_TIMEOUT_S)
        try:
            self._connect()
            self._is_spoilt = False
        except StorageUnavailable as error:
            log.warning("the producer is not replaced yet: %s", error)

    def _close(self) -> None:
        if self._producer is not None:
            self._producer.flush(_CLOSE_TIMEOUT_S)
            self._producer.purge()
            self._producer = None


def _retrieve(landed: asyncio.Future[list[int]]) -> None:
    """Callers may have stopped waiting: an outcome that nobody awaits is no programming error."""
    if not landed.cancelled():
        landed.exception()
