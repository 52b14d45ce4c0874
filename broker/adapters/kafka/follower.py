"""A consumer in its own thread that follows partitions and hands what it reads to the event loop.

The loop is woken once per poll, never per record, and the thread stops polling while more than `prefetch_bytes` have been
handed over and not released; the consumer itself reads ahead as much once more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from confluent_kafka import KafkaError, TopicPartition

from broker.adapters.kafka.clients import connected_consumer
from broker.adapters.kafka.connection import KafkaConnection
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Place = tuple[str, int]
"""Kafka topic and partition."""

_POLL_S = 0.05
_RETRY_S = 0.5
_CUT_OFF = KafkaError(KafkaError._LOG_TRUNCATION).str()
"""How the text of an offset error begins where a log ends before what was read of it; its code is the same as others'."""


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
"""The consumer's messages of one partition -> items and their size in bytes; runs in the follower's thread."""


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
        except BaseException:
            await self.close()
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
            consumer = connected_consumer(self._connection, prefetch_bytes=self._prefetch_bytes)
        except StorageUnavailable as error:
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
        polled: Mapping[Place, Sequence[Any]] = {}
        try:
            polled, errors = _polled(consumer, self._poll_records)
            batches = [Batch(place, *self._convert(place, messages)) for place, messages in polled.items()]
        except Exception as error:  # noqa: BLE001 - a fault in the client must stall this thread, never end it
            log.warning("reading from Kafka failed and is tried again: %s", type(error).__name__)
            _read_again(consumer, {place: messages[0].offset() for place, messages in polled.items()})
            self._pause()
            return
        if batches:
            self._account(batches, generation)
            self._post(self._hand_over, batches, generation)
        for message in errors:
            self._failed(consumer, message, generation)

    def _failed(self, consumer: Any, message: Any, generation: int) -> None:
        """An error in place of a message. Only the one of an offset ends the reading of its partition."""
        error, place = message.error(), (message.topic(), message.partition())
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # the library looks for the coordinator of its group, which nobody joins
        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            log.warning("reading from Kafka goes on after: %s", error.name())
        elif not error.str().startswith(_CUT_OFF):
            self._post(self._hand_over, OutOfRange(place, message.offset()), generation)
        elif self._tell_truncation:
            self._post(self._hand_over, OutOfRange(place, -1), generation)
        else:
            log.warning("a log ends before what was read of it, and is read again: %s", place[0])
            _read_again(consumer, {place: message.offset()})
            self._pause()

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


def _polled(consumer: Any, most: int) -> tuple[Mapping[Place, Sequence[Any]], Sequence[Any]]:
    """What has come, by partition, and errors; waits a moment for the first of it, since `consume` waits for the last."""
    first = consumer.poll(_POLL_S)
    found: dict[Place, list[Any]] = {}
    errors = []
    for message in [] if first is None else [first, *consumer.consume(most - 1, 0)]:
        if message.error() is not None:
            errors.append(message)
            continue
        place = (message.topic(), message.partition())
        if place not in found:
            found[place] = []
        found[place].append(message)
    return found, errors


def _assign(consumer: Any, places: set[Place], wanted: Mapping[Place, int]) -> set[Place]:
    """Add places at their offsets; the others keep their positions."""
    if not places:
        consumer.assign(_at(wanted))
        return set(wanted)
    _read_again(consumer, {place: offset for place, offset in wanted.items() if place in places})
    added = {place: offset for place, offset in wanted.items() if place not in places}
    if added:
        consumer.incremental_assign(_at(added))
    return places | added.keys()


def _read_again(consumer: Any, offsets: Mapping[Place, int]) -> None:
    """Go to other offsets of assigned places; what was read ahead of them is dropped."""
    if offsets:
        consumer.incremental_unassign(_at(offsets))
        consumer.incremental_assign(_at(offsets))


def _at(offsets: Mapping[Place, int]) -> list[TopicPartition]:
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
