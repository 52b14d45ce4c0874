"""One run of a sink: takes batches from the exchange while the last ones are being stored, each with the cursor after it.

Where a sink has come to is what its store says, not what the exchange believes: so whatever was stored is neither lost nor
repeated, wherever the process ends. What is stored is then acknowledged, which tells auditors that it arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.client import Client
from connectors.delivery import Delivery, Start
from connectors.errors import EntenteClientError
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import TaskContext
from connectors.runtime.settings import SinkSettings
from connectors.runtime.taken import Taken
from connectors.runtime.takeovers import Takeovers
from connectors.stream import RecordStream

_LOOK_S = 1.0
_IDLE_STORE_S = 60.0
_TOGETHER_S = 0.1
"""Batches that follow one another are stored at such intervals, the first at once: to make them durable costs a cluster or
a disk as much as hundreds of records. Kafka Streams commits as often where it does so exactly once."""

_ONE_SESSION = Retry(attempts=1)
_GO_ON_AFTER = frozenset({"TOKEN_EXPIRED", "ACK_REFUSED", "CONSUMER_TOO_SLOW"})


class SinkStore(Protocol):
    """Where a sink's records lie, and with them how far it has come. Every method raises ConnectorFailed and OSError."""

    @property
    def place(self) -> Start | None:
        """Where the sink goes on; None: it has never begun."""
        ...

    async def store(self, batches: Sequence[Delivery], cursor: bytes) -> int:
        """Keep whole batches and the cursor after them, all or nothing; how many of them are, for good, not kept."""
        ...

    async def move(self, cursor: bytes) -> None:
        """Go on there."""
        ...

    async def look(self) -> None:
        """Called about once a second while nothing comes."""
        ...

    async def still_own(self) -> None:
        """Raises ConnectorFailed if another process has taken the store over."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """How much a sink takes before it has stored it."""

    records: int
    size_bytes: int = 8 * 1024 * 1024


class SinkRun:
    """Session after session, each from where the store stands, until the gate says stop."""

    def __init__(
        self,
        task: TaskContext,
        settings: SinkSettings,
        subscription: str,
        store: SinkStore,
        window: Window,
        takeovers: Takeovers,
    ) -> None:
        """subscription: its name. store: open. takeovers: the connector's, of all its runs."""
        self._task = task
        self._settings = settings
        self._name = subscription
        self._store = store
        self._window = window
        self._takeovers = takeovers
        self._taken = Taken(window.records, window.size_bytes)
        self._stored_at_s = time.monotonic()
        self._due_s = 0.0
        self._last_s: float | None = None
        self._moved = False

    async def run(self) -> None:
        """As Connector.run."""
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
                await self._store.still_own()
                raise self._taken_over()
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

    def _taken_over(self) -> ConnectorFailed:
        name = self._name
        if self._takeovers.recur(time.monotonic()):
            return ConnectorFailed(
                f"subscription {name} is used by another program too, as the same principal, and they took it from each"
                " other; stop that one, or name another subscription, then restart",
                lasting=True,
            )
        return ConnectorFailed(
            f"somebody moved subscription {name} or uses it too; the connector starts again from its place"
        )

    # -- where it begins ------------------------------------------------------------------------------------------

    async def _position(self, exchange: Client) -> None:
        """Make the subscription stand where the store does; keep where that is, if the store did not know."""
        place = self._store.place
        if place is None:
            cursor = await self._created(exchange, self._settings.start)
        else:
            cursor = await self._moved_to(exchange, place)
        if not isinstance(place, bytes):
            await self._store.move(cursor)

    async def _created(self, exchange: Client, start: Start) -> bytes:
        """An existing subscription stays where it is: what was acknowledged was stored."""
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
        taken = self._taken = Taken(self._window.records, self._window.size_bytes)
        stream = self._task.exchange.subscribe(
            self._settings.topic,
            self._settings.purpose,
            subscription=self._name,
            on_expired=self._settings.on_expired,
            max_in_flight=self._window.records,
            max_in_flight_bytes=self._window.size_bytes,
            # Each session begins where the store stands, which a stream that reconnects by itself could not know.
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
            # What it could not acknowledge is stored all the same.
            with contextlib.suppress(EntenteClientError):
                await stream.close()

    async def _take(self, stream: RecordStream) -> None:
        gate, taken = self._task.gate, self._taken
        while True:
            deliveries = await stream.several(taken.left)
            if not deliveries:
                return
            if (gate.paused or gate.stopping) and not await gate.proceed():
                return
            taken.add(deliveries)
            if taken.full:
                await taken.room()

    async def _watch(self) -> None:
        while not self._task.gate.stopping:
            await self._task.gate.changed()
            self._taken.wake()

    async def _write(self, stream: RecordStream, taking: asyncio.Task[None]) -> None:
        while True:
            await self._gather(taking)
            batches = self._taken.all_sealed()
            if batches:
                await self._keep(stream, batches)
            elif self._task.gate.stopping:
                return
            elif taking.done():
                taking.result()
                return
            else:
                await self._taken.news(_LOOK_S)
                await self._store.look()
                await self._look(stream)

    async def _gather(self, taking: asyncio.Task[None]) -> None:
        """Once a batch waits, wait for more of them until it is due, but not if they are many or none can come."""
        gate = self._task.gate
        while self._taken.few and not (gate.paused or gate.stopping or taking.done()):
            left_s = self._due_s - time.monotonic()
            if left_s <= 0:
                return
            await self._taken.news(left_s)

    async def _keep(self, stream: RecordStream, batches: Sequence[Delivery]) -> None:
        """Store them, then tell the exchange."""
        last = batches[-1]
        self._due_s = time.monotonic() + _TOGETHER_S
        cursor = next((each.cursor for each in reversed(batches) if each.policy_change is None), None)
        place = self._store.place
        if cursor is None:
            # A change of policy has no place of its own.
            cursor = place if isinstance(place, bytes) else last.cursor
        waiting = asyncio.create_task(self._lag(_stored_s(batches[0])))
        try:
            left_out = await self._store.store(batches, cursor)
        finally:
            waiting.cancel()
        self._count(len(batches) - left_out, batches)
        await stream.ack(last)

    # -- what is told of it ---------------------------------------------------------------------------------------

    def _count(self, kept: int, batches: Sequence[Delivery]) -> None:
        self._moved = True
        self._stored_at_s = time.monotonic()
        self._task.progress.moved(kept, sum(each.size_bytes for each in batches))
        self._last_s = _stored_s(batches[-1])
        self._task.progress.lag_s = max(0.0, time.time() - self._last_s)

    async def _lag(self, since_s: float) -> None:
        """While batches are being stored they wait, however long that takes."""
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
            await self._store.move(stream.cursor)
            self._stored_at_s = time.monotonic()


def _stored_s(delivery: Delivery) -> float:
    """When the exchange stored what is delivered; for what does not tell it, now."""
    record = delivery.record
    if record is None or "recordedtime" not in record.attributes:
        return time.time()
    return record.attributes["recordedtime"].ce_timestamp.ToNanoseconds() / 1e9
