"""The control log on Kafka: compacted topic `<prefix>.control`, one partition, followed by every instance.

Each event has a key of its own (`event/<random>`), so compaction never takes it; beats have the key `beat/<instance>`, so of
each instance's beats the newest stays.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import KEEP_FOR_GOOD, ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import Entry, to_entries
from broker.core.control.encoding import decode, encode_beat, encode_event
from broker.core.control.seal import ControlSeal
from broker.errors import StorageUnavailable
from broker.model.control import Beat, ControlEvent, Heard

log = logging.getLogger(__name__)

_SETTINGS = {
    "cleanup.policy": "compact",
    "retention.ms": KEEP_FOR_GOOD,
    # Beats are most of the topic: small segments, so that they are compacted away and a start has little to read.
    "segment.bytes": str(1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
}
_LOAD_TIMEOUT_S = 30.0


class KafkaControlLog:
    """Implements the ControlLog port; belongs to the event loop that opened it."""

    def __init__(self, connection: KafkaConnection, seal: ControlSeal, *, timeout_s: float) -> None:
        self._seal = seal
        self._topic = connection.topic("control")
        self._timeout_s = timeout_s
        self._admin = ClusterAdmin(connection)
        self._outbox = Outbox(connection)
        self._follower = Follower[Entry](
            connection, to_entries, self._arrived, name="control", tell_truncation=True
        )
        self._heard: Callable[[Sequence[Heard]], None] = lambda _: None
        self._lost: Callable[[], None] = lambda: None
        self._read_to = 0
        self._moved = asyncio.Event()
        self._is_lost = False
        self._closed = False

    @classmethod
    async def open(
        cls, connection: KafkaConnection, seal: ControlSeal, *, timeout_s: float = 10.0
    ) -> KafkaControlLog:
        """Create the topic if it is absent; raises StorageUnavailable."""
        opened = cls(connection, seal, timeout_s=timeout_s)
        try:
            await opened._admin.ensure_topic(opened._topic, 1, _SETTINGS)
            await opened._outbox.start()
        except BaseException:
            await opened.close()
            raise
        return opened

    async def append(self, event: ControlEvent) -> int:
        """See ControlLog. Raises ValueError for an event that is too large."""
        return await self._send(f"event/{secrets.token_hex(16)}", encode_event(event), event.time_ms)

    async def beat(self, beat: Beat) -> None:
        """See ControlLog."""
        await self._send(f"beat/{beat.instance}", encode_beat(beat), None)

    async def follow(self, heard: Callable[[Sequence[Heard]], None], lost: Callable[[], None]) -> None:
        """See ControlLog; raises StorageUnavailable too if Kafka does not send what it has."""
        self._heard, self._lost = heard, lost
        (begin,) = await self._admin.offsets(self._topic, 1, OffsetSpec.EARLIEST)
        (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
        await self._follower.start()
        self._follower.follow({(self._topic, 0): begin})
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                while self._read_to < end and begin < end:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise StorageUnavailable(f"Kafka does not send what '{self._topic}' holds; start again") from None

    async def close(self) -> None:
        """See ControlLog. Ends all threads."""
        self._closed = True
        await self._outbox.close()
        await self._follower.close()
        await self._admin.close()

    async def _send(self, key: str, value: bytes, time_ms: int | None) -> int:
        """Store one record and return its offset. What could not be confirmed in time keeps its place in the order."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._outbox.room()
        except TimeoutError:
            raise StorageUnavailable("Kafka takes nothing for the control log now") from None
        message = Message(key.encode(), self._seal.seal(value), time_ms)
        landed = self._outbox.enqueue(self._topic, 0, [message])
        await asyncio.wait([landed], timeout=self._timeout_s)
        if not landed.done() or landed.exception() is not None or landed.result()[0] < 0:
            raise StorageUnavailable("Kafka has not confirmed what was written to the control log")
        return landed.result()[0]

    def _arrived(self, news: Sequence[Batch[Entry]] | OutOfRange) -> None:
        if isinstance(news, OutOfRange):
            self._lose(f"the topic '{self._topic}' lost records or was deleted")
            return
        for batch in news:
            self._hand_over(batch)
            self._follower.release(batch.size)
        self._moved.set()

    def _hand_over(self, batch: Batch[Entry]) -> None:
        heard = []
        for entry in batch.items:
            try:
                heard.append(Heard(entry.offset, decode(self._seal.open(entry.value or b""))))
            except ValueError as error:
                # Another version's, or somebody's who should not write here: what it would restrict nobody knows.
                self._lose(f"offset {entry.offset} of '{self._topic}' cannot be read: {error}")
            self._read_to = entry.offset + 1
        if heard and not self._is_lost:
            self._heard(heard)

    def _lose(self, cause: str) -> None:
        if not self._is_lost and not self._closed:
            self._is_lost = True
            log.error("%s", cause)
            self._lost()
