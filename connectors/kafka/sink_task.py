"""One run of a Kafka sink: takes batches from the exchange while the last portion is being committed to Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.client import Client
from connectors.delivery import Delivery, Start
from connectors.errors import EntenteClientError
from connectors.kafka.encoding import Encoder
from connectors.kafka.exactly_once import ExactlyOnce
from connectors.kafka.portion import Portion, RecordRefused, Treatment
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.thread import ClientThread
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import TaskContext
from connectors.runtime.taken import Taken
from connectors.stream import RecordStream

log = logging.getLogger(__name__)

_IN_FLIGHT = 4_000
_IN_FLIGHT_BYTES = 8 * 1024 * 1024
_LOOK_S = 1.0
_IDLE_STORE_S = 60.0
_ONE_SESSION = Retry(attempts=1)
_GO_ON_AFTER = frozenset({"TOKEN_EXPIRED", "ACK_REFUSED", "CONSUMER_TOO_SLOW"})


@dataclass(frozen=True, slots=True)
class SinkParts:
    """What a run is made of. thread: where `store` lives."""

    subscription: str
    settings: KafkaSinkSettings
    treatment: Treatment
    store: ExactlyOnce
    thread: ClientThread


class SinkRun:
    """From taking the connector over to stopping."""

    def __init__(self, task: TaskContext, parts: SinkParts) -> None:
        settings = parts.settings
        self._task = task
        self._name = parts.subscription
        self._settings = settings
        self._store = parts.store
        self._thread = parts.thread
        self._encoder = Encoder(settings)
        self._treatment = parts.treatment
        self._taken = Taken()
        self._stored_at_s = time.monotonic()
        self._last_s: float | None = None
        self._moved = False

    async def run(self) -> None:
        """As Connector.run, for a store that is open."""
        pauses_s: Iterator[float] = iter(())
        fresh = True
        while await self._task.gate.proceed():
            if fresh:
                pauses_s, fresh = self._settings.retry.policy().pauses_s(), False
            # The client repeats these calls by itself, and a second round of that would keep the failure from being told.
            repeats: Iterator[float] = iter(())
            try:
                await self._position(self._task.exchange)
                repeats = pauses_s
                await self._session()
            except EntenteClientError as error:
                self._task.progress.lag_s = None
                fresh, self._moved = self._moved, False
                await self._again(error, repeats)

    async def _again(self, error: EntenteClientError, pauses_s: Iterator[float]) -> None:
        """Wait before the next session, or end the task with what the exchange said."""
        match error.reason:
            case "SUBSCRIPTION_TAKEN_OVER":
                await self._thread.call(self._store.still_owner)
                raise ConnectorFailed(
                    f"somebody moved subscription {self._name}; the connector starts again from its place"
                )
            case "POSITION_EXPIRED":
                remedy = 'set on_expired = "earliest", or stop the connector and alter its offsets'
                raise ConnectorFailed(
                    f"POSITION_EXPIRED: records that were not read are gone; {remedy}", lasting=True
                )
            case "CURSOR_INVALID" | "SUBSCRIPTION_EXISTS":
                remedy = "stop the connector and alter its offsets, or name another subscription"
                raise ConnectorFailed(f"{error.reason}: {error.message}; {remedy}", lasting=True)
        pause_s = next(pauses_s, None) if error.retryable or error.reason in _GO_ON_AFTER else None
        if pause_s is None:
            raise error
        self._task.progress.retries += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task.gate.changed(), pause_s)

    # -- where it begins ------------------------------------------------------------------------------------------

    async def _position(self, exchange: Client) -> None:
        """Make the subscription stand where Kafka says that the connector stands; keep where that is, if it did not."""
        if self._store.damaged:
            raise no_place(self._settings)
        place = self._store.place
        if place is None:
            start = self._settings.start
            cursor = await self._created(exchange, start)
        else:
            cursor = await self._moved_to(exchange, place)
        if not isinstance(place, bytes):
            await self._thread.call(self._store.store, self._portion([], cursor))

    async def _created(self, exchange: Client, start: Start) -> bytes:
        """An existing subscription stays where it is: what was acknowledged is in Kafka."""
        settings = self._settings
        made = await exchange.create_subscription(self._name, settings.topic, settings.purpose, start)
        return made.cursor

    async def _moved_to(self, exchange: Client, place: Start) -> bytes:
        try:
            return (await exchange.seek_subscription(self._name, place)).cursor
        except EntenteClientError as error:
            if error.reason != "SUBSCRIPTION_NOT_FOUND":
                raise
        return await self._created(exchange, place)

    # -- one session ----------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        """One stream, from its opening to its end or to the order to stop; what was sealed is stored in any case."""
        taken = self._taken = Taken()
        stream = self._task.exchange.subscribe(
            self._settings.topic,
            self._settings.purpose,
            subscription=self._name,
            on_expired=self._settings.on_expired,
            max_in_flight=_IN_FLIGHT,
            max_in_flight_bytes=_IN_FLIGHT_BYTES,
            # Each session begins where Kafka stands, which a stream that reconnects by itself could not know.
            reconnect=_ONE_SESSION,
        )
        await stream.__aenter__()
        taking = asyncio.create_task(self._take(stream))
        taking.add_done_callback(lambda _: taken.wake())
        helpers = [taking, asyncio.create_task(self._watch())]
        try:
            await self._write(stream, taking)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            # What it could not acknowledge is in Kafka all the same.
            with contextlib.suppress(EntenteClientError):
                await stream.close()

    async def _take(self, stream: RecordStream) -> None:
        gate, taken = self._task.gate, self._taken
        async for delivery in stream:
            if (gate.paused or gate.stopping) and not await gate.proceed():
                return
            taken.add(delivery)
            if taken.full:
                await taken.room()

    async def _watch(self) -> None:
        while not self._task.gate.stopping:
            await self._task.gate.changed()
            self._taken.wake()

    async def _write(self, stream: RecordStream, taking: asyncio.Task[None]) -> None:
        while True:
            batches = self._taken.all_sealed()
            if batches:
                await self._commit(stream, batches)
            elif self._task.gate.stopping:
                return
            elif taking.done():
                taking.result()
                return
            else:
                await self._taken.news(_LOOK_S)
                await self._look(stream)

    async def _commit(self, stream: RecordStream, batches: list[Delivery]) -> None:
        """Store them, then tell the exchange."""
        last = batches[-1]
        cursor = next((each.cursor for each in reversed(batches) if each.policy_change is None), None)
        place = self._store.place
        if cursor is None:
            # A change of policy has no place of its own.
            cursor = place if isinstance(place, bytes) else last.cursor
        waiting = asyncio.create_task(self._lag(_stored_s(batches[0])))
        try:
            portion = await self._thread.call(self._stored, batches, cursor)
        except RecordRefused:
            self._task.progress.failed += 1
            raise
        finally:
            waiting.cancel()
        self._count(portion, batches)
        await stream.ack(last)

    def _stored(self, batches: list[Delivery], cursor: bytes) -> Portion:
        """In the store's thread."""
        portion = self._portion(batches, cursor)
        self._store.store(portion)
        return portion

    def _portion(self, batches: list[Delivery], cursor: bytes) -> Portion:
        return Portion(batches, cursor, self._encoder, self._treatment)

    # -- what is told of it ---------------------------------------------------------------------------------------

    def _count(self, portion: Portion, batches: list[Delivery]) -> None:
        progress = self._task.progress
        self._moved = True
        self._stored_at_s = time.monotonic()
        if self._treatment.on_error == "skip":
            progress.skipped += len(portion.treated)
        else:
            progress.dead_lettered += len(portion.treated)
        for letter in portion.treated:
            chosen = self._treatment
            log.warning(
                "connector %s: %s at %s: %s", chosen.connector, chosen.on_error, letter.place, letter.cause
            )
        size_bytes = sum(each.size_bytes for each in batches)
        progress.moved(len(batches) - len(portion.treated), size_bytes)
        self._last_s = _stored_s(batches[-1])
        progress.lag_s = max(0.0, time.time() - self._last_s)

    async def _lag(self, since_s: float) -> None:
        """While a portion is being written it waits, however long that takes."""
        while True:
            self._task.progress.lag_s = max(0.0, time.time() - since_s)
            await asyncio.sleep(_LOOK_S)

    async def _look(self, stream: RecordStream) -> None:
        """When all that came is stored: a heartbeat since then says that nothing waits, and has a later cursor."""
        if not self._taken.empty or self._task.gate.paused:
            return
        if not stream.caught_up:
            if self._last_s is not None:
                self._task.progress.lag_s = max(0.0, time.time() - self._last_s)
            return
        self._last_s = None
        self._task.progress.lag_s = 0.0
        self._task.progress.idle()
        if time.monotonic() - self._stored_at_s >= _IDLE_STORE_S:
            # Else a place where everything is withheld would fall out of retention.
            await self._thread.call(self._store.store, self._portion([], stream.cursor))
            self._stored_at_s = time.monotonic()


def no_place(settings: KafkaSinkSettings) -> ConnectorFailed:
    """What is kept under the connector's key was written by something else."""
    topic = settings.write.cursor_topic
    return ConnectorFailed(f"topic {topic} holds no place of the connector; alter its offsets", lasting=True)


def _stored_s(delivery: Delivery) -> float:
    """When the exchange stored what is delivered; for what does not tell it, now."""
    record = delivery.record
    if record is None or "recordedtime" not in record.attributes:
        return time.time()
    return record.attributes["recordedtime"].ce_timestamp.ToNanoseconds() / 1e9
