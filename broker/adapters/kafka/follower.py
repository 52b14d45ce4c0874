"""A consumer in its own thread that follows partitions and hands what it reads to the event loop.

kafka-python's consumer blocks and belongs to one thread. The loop is woken once per poll, never per record, and the
thread stops polling while more than `prefetch_bytes` have been handed over and not released.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kafka import TopicPartition
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

from broker.adapters.kafka.connection import KafkaConnection
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Place = tuple[str, int]
"""Kafka topic and partition."""

_POLL_MS = 50
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Records of one partition from one poll; `size` is what to release after use."""

    place: Place
    items: Sequence[T]
    size: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The offset asked for is not in the log: below its start, or the topic was made anew; -1 if the log was cut off."""

    place: Place
    offset: int


Convert = Callable[[Place, Sequence[Any]], tuple[Sequence[T], int]]
"""kafka-python's records of one partition -> items and their size in bytes; runs in the follower's thread."""


class Follower(Generic[T]):
    """Follows the assigned places from given offsets; all methods belong to the event loop that made it.

    `deliver` is called in the loop with the batches of one poll, or with OutOfRange (the place is then left alone
    until `follow` names it again). With `tell_truncation` that also tells of a log that ends before what was read of it
    (KIP-320), as after the election of a replica that lacked it; without, reading is tried again.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        convert: Convert[T],
        deliver: Callable[[Sequence[Batch[T]] | OutOfRange], None],
        *,
        name: str,
        prefetch_bytes: int = 8 * 1024 * 1024,
        poll_records: int = 1_000,
        tell_truncation: bool = False,
    ) -> None:
        self._connection = connection
        self._convert = convert
        self._deliver = deliver
        self._prefetch_bytes = prefetch_bytes
        self._poll_records = poll_records
        self._tell_truncation = tell_truncation
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._wanted: dict[Place, int] = {}
        self._replace = False
        self._generation = 0
        self._held_bytes = 0
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{name}", daemon=True)

    async def start(self) -> None:
        """Connect; raises StorageUnavailable if the cluster cannot be reached."""
        self._thread.start()
        try:
            await asyncio.shield(self._started)
        except BaseException as error:
            await self.close()
            if isinstance(error, (KafkaError, OSError)):
                raise StorageUnavailable(f"Kafka cannot be reached: {type(error).__name__}") from error
            raise

    def follow(self, places: Mapping[Place, int], *, replace: bool = False) -> None:
        """Read these places from these offsets on, beside the others or instead of them.

        With `replace`, nothing read for an earlier assignment is delivered after this.
        """
        with self._changed:
            if replace:
                self._generation += 1
                self._held_bytes = 0
                self._wanted.clear()
                self._replace = True
            self._wanted.update(places)
            self._changed.notify()

    def release(self, size: int) -> None:
        """Say that delivered items of this size were used up, so that more may be read ahead."""
        with self._changed:
            self._held_bytes = max(0, self._held_bytes - size)
            self._changed.notify()

    async def close(self) -> None:
        """End the thread and the client; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
            self._thread.join()

    def _run(self) -> None:
        try:
            consumer = self._connection.consumer(
                max_poll_records=self._poll_records, fetch_max_wait_ms=250, retry_backoff_ms=20
            )
        except (KafkaError, OSError) as error:
            self._post(_fail, self._started, error)
            self._post(_succeed, self._ended)
            return
        self._post(_succeed, self._started)
        try:
            self._read(consumer)
        finally:
            consumer.close()
            self._post(_succeed, self._ended)

    def _read(self, consumer: Any) -> None:
        places: set[Place] = set()
        while True:
            with self._changed:
                while not (self._closing or self._wanted or self._replace) and (
                    not places or self._is_full()
                ):
                    self._changed.wait()
                if self._closing:
                    return
                wanted, self._wanted = self._wanted, {}
                if self._replace:
                    places, self._replace = set(), False
                generation = self._generation
            if wanted:
                places = _assign(consumer, places, wanted)
            self._poll(consumer, generation)

    def _is_full(self) -> bool:
        return self._held_bytes >= self._prefetch_bytes

    def _poll(self, consumer: Any, generation: int) -> None:
        """One poll; whatever goes wrong stalls the places and is tried again, so that nothing is skipped."""
        polled: Mapping[TopicPartition, Sequence[Any]] = {}
        try:
            polled = consumer.poll(timeout_ms=_POLL_MS)
            batches = [self._batch(place, records) for place, records in polled.items()]
        except OffsetOutOfRangeError as error:
            self._fell_out(consumer, error.args[0], generation)
        except Exception as error:  # noqa: BLE001 - a fault in the client must stall this thread, never end it
            if isinstance(error, LogTruncationError) and self._tell_truncation:
                self._fell_out(consumer, dict.fromkeys(error.divergent_offsets, -1), generation)
                return
            log.warning("reading from Kafka failed and is tried again: %s", type(error).__name__)
            for place, records in polled.items():
                consumer.seek(place, records[0].offset)
            self._pause()
        else:
            if batches:
                self._account(batches, generation)
                self._post(self._hand_over, batches, generation)

    def _fell_out(self, consumer: Any, offsets: Mapping[TopicPartition, int], generation: int) -> None:
        for place, offset in offsets.items():
            consumer.pause(place)
            self._post(self._hand_over, OutOfRange((place.topic, place.partition), offset), generation)

    def _batch(self, place: TopicPartition, records: Sequence[Any]) -> Batch[T]:
        ours = (place.topic, place.partition)
        items, size = self._convert(ours, records)
        return Batch(ours, items, size)

    def _account(self, batches: Sequence[Batch[T]], generation: int) -> None:
        with self._changed:
            if generation == self._generation:
                self._held_bytes += sum(batch.size for batch in batches)

    def _pause(self) -> None:
        with self._changed:
            if not self._closing:
                self._changed.wait(_RETRY_S)

    def _hand_over(self, news: Sequence[Batch[T]] | OutOfRange, generation: int) -> None:
        """In the loop: what was read before a `replace` is dropped."""
        if generation == self._generation and not self._closing:
            self._deliver(news)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _assign(consumer: Any, places: set[Place], wanted: Mapping[Place, int]) -> set[Place]:
    """Add places and seek to them; the others keep their positions."""
    places = places | wanted.keys()
    consumer.assign([TopicPartition(*place) for place in places])
    for place, offset in wanted.items():
        consumer.seek(TopicPartition(*place), offset)
        consumer.resume(TopicPartition(*place))
    return places


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
