"""Sending with a known order: per partition one flight after another, pipelined across partitions.

kafka-python's producer buffers without bound and forgets what it gave up, so:

* `room` holds callers back while more than `limit_bytes` wait or fly.
* The producer's delivery timeout is a day. Until then a flight is sent again under the same producer id and sequence
  numbers, which Kafka stores once (KIP-98). A caller may stop waiting; the flight goes on and its outcome still
  becomes known here, so that the caller's repetition can join it instead of being stored twice.
* A flight leaves only when the one before it has landed, so a failure never lets later records of a partition overtake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kafka.errors import KafkaError

from broker.adapters.kafka.connection import MAX_RECORD_BYTES, KafkaConnection
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

FLIGHT_BYTES = 1024 * 1024
FLIGHT_RECORDS = 4_000
LARGEST_BYTES = MAX_RECORD_BYTES - FLIGHT_BYTES
"""The largest message, and the largest job of an atomic outbox."""

_OVERHEAD_BYTES = 200
_DELIVERY_TIMEOUT_MS = 24 * 3600 * 1000
_CLOSE_TIMEOUT_S = 5.0


class SendFailed(Exception):
    """Kafka did not confirm; `stored` is False when the messages certainly are not in the log, None when unknown."""

    def __init__(self, message: str, *, stored: bool | None) -> None:
        super().__init__(message)
        self.stored = stored


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
        self._closed = False

    async def start(self) -> None:
        """Make the producer now; raises StorageUnavailable if the cluster cannot be reached."""
        try:
            await self._loop.run_in_executor(self._thread, self._connected)
        except (KafkaError, OSError) as error:
            raise StorageUnavailable(f"Kafka cannot be reached: {type(error).__name__}") from error

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
        self._thread.submit(self._transmit, lane, messages)

    def _transmit(self, lane: _Lane, messages: Sequence[Message]) -> None:
        """In the outbox thread: hand a flight to the producer. One partition's records complete in order."""
        sent: list[Any] = []
        try:
            producer = self._connected()
            for message in messages:
                future = producer.send(
                    lane.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    partition=lane.partition,
                    timestamp_ms=message.timestamp_ms,
                )
                sent.append(future)
        except (KafkaError, OSError, ValueError) as error:
            stored = None if sent else False
            self._report(lane, SendFailed(f"Kafka did not take it: {type(error).__name__}", stored=stored))
            return
        sent[-1].add_both(lambda _: self._report(lane, _outcome(sent)))
        while self._atomic and not (sent[-1].is_done or self._closed):
            with contextlib.suppress(KafkaError):  # its timeout only lets us see whether we are closed
                producer.flush(timeout=1.0)

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

    def _connected(self) -> Any:
        if self._producer is None:
            self._producer = self._connection.producer(
                # Without a flush nothing leaves before a minute, and a batch takes more than a flight: so it is one.
                linger_ms=60_000 if self._atomic else 0,
                batch_size=MAX_RECORD_BYTES if self._atomic else FLIGHT_BYTES,
                delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
                max_block_ms=5_000,
                retry_backoff_ms=20,
            )
        return self._producer

    def _close(self) -> None:
        if self._producer is None:
            return
        try:
            self._producer.close(timeout=_CLOSE_TIMEOUT_S)
        except KafkaError:
            # Its close() gives up, still running, when the cluster is away: then end the sender's thread directly.
            self._producer._sender.force_close()
        self._producer._sender.join()
        self._producer = None


def _outcome(sent: Sequence[Any]) -> list[int] | SendFailed:
    """Offsets if all are stored; the last one has completed, so an open one before it was abandoned."""
    for future in sent:
        if not future.succeeded():
            name = type(future.exception).__name__ if future.failed() else "abandoned"
            log.warning("Kafka did not confirm a flight: %s", name)
            return SendFailed(f"Kafka did not confirm it: {name}", stored=None)
    return [future.value.offset for future in sent]


def _retrieve(landed: asyncio.Future[list[int]]) -> None:
    """Callers may have stopped waiting: an outcome that nobody awaits is no programming error."""
    if not landed.cancelled():
        landed.exception()
