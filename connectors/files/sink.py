"""The file sink: from a topic of the exchange into a directory, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.client import Client
from connectors.delivery import Delivery, Start
from connectors.errors import EntenteClientError
from connectors.files import disk
from connectors.files.settings import FileSinkSettings
from connectors.files.store import FileStore
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed, Direction, Offset, Redriven
from connectors.runtime.places import decode_place, encode_place
from connectors.runtime.plugin import TaskContext
from connectors.runtime.settings import ConnectorSettings
from connectors.runtime.taken import Taken
from connectors.stream import RecordStream

_IN_FLIGHT = 1_000
_LOOK_S = 1.0
_IDLE_STORE_S = 60.0
_ONE_SESSION = Retry(attempts=1)
_GO_ON_AFTER = frozenset({"TOKEN_EXPIRED", "ACK_REFUSED", "CONSUMER_TOO_SLOW"})


class FileSink:
    """One directory, one subscription, one task."""

    tasks = 1

    def __init__(self, name: str, settings: FileSinkSettings) -> None:
        self._settings = settings
        self._subscription = settings.subscription_of(name)

    async def run(self, task: TaskContext) -> None:
        """See Connector."""
        with self._held():
            await _Run(task, self._settings, self._subscription).run()

    async def check(self, exchange: Client) -> Sequence[str]:
        """See Connector."""
        settings = self._settings
        found = await asyncio.to_thread(self._findings)
        if not (await exchange.can_i("subscribe", settings.topic, settings.purpose)).permitted:
            what = f"may not be subscribed to for {settings.purpose}, or it might not exist; ask its owner"
            found.append(f"topic {settings.topic}: {what}")
        return found

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        """What the directory holds: the cursor after its last record."""
        place = await asyncio.to_thread(self._store().read)
        return [Offset(self._partition, None if place is None else encode_place(place))]

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        """A cursor of the subscription, or {"from": earliest, latest or a time}; None: where a new one begins."""
        if len(offsets) != 1 or offsets[0].partition != self._partition:
            raise ValueError(f"give one offset, of the partition {self._partition}")
        wished = offsets[0].offset
        place = self._settings.start if wished is None else decode_place(wished)
        with self._held():
            store = self._store()
            await asyncio.to_thread(store.open)
            await asyncio.to_thread(store.move, place)

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        """A file sink has no dead letters: what it is given it can write."""
        return Redriven()

    @property
    def _partition(self) -> dict[str, str]:
        return {"subscription": self._subscription, "topic": self._settings.topic}

    def _store(self) -> FileStore:
        return FileStore(self._settings, self._subscription)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        for finding in self._findings():
            raise ConnectorFailed(finding)
        with disk.held(self._settings.directory):
            yield

    def _findings(self) -> list[str]:
        notices = self._settings.notices_directory
        return [
            *disk.findings(self._settings.directory),
            *(disk.findings(notices) if notices.exists() else []),
        ]


class _Run:
    """From taking the directory over to stopping."""

    def __init__(self, task: TaskContext, settings: FileSinkSettings, subscription: str) -> None:
        self._task = task
        self._settings = settings
        self._name = subscription
        self._store = FileStore(settings, subscription)
        self._work: asyncio.Future[None] | None = None
        self._taken = Taken()
        self._stored_at_s = time.monotonic()
        self._moved = False

    async def run(self) -> None:
        """Session after session, each from where the directory stands."""
        try:
            await self._blocking(self._store.open)
            await self._sessions()
            await self._blocking(lambda: self._store.close_segment(now=True))
        finally:
            if self._work is not None:
                # A thread cannot be cancelled: the directory is given up only when nothing writes there any more.
                await asyncio.wait({self._work})

    async def _blocking(self, work: Callable[[], None]) -> None:
        self._work = asyncio.ensure_future(asyncio.to_thread(work))
        await asyncio.shield(self._work)

    async def _sessions(self) -> None:
        pauses_s: Iterator[float] = iter(())
        fresh = True
        while await self._task.gate.proceed():
            if fresh:
                pauses_s, fresh = self._settings.retry.policy().pauses_s(), False
            try:
                await self._position(self._task.exchange)
                await self._session()
            except EntenteClientError as error:
                self._task.progress.lag_s = None
                fresh, self._moved = self._moved, False
                await self._again(error, pauses_s)

    async def _again(self, error: EntenteClientError, pauses_s: Iterator[float]) -> None:
        """Wait before the next session, or end the task with what the exchange said."""
        match error.reason:
            case "SUBSCRIPTION_TAKEN_OVER":
                raise ConnectorFailed(
                    f"subscription {self._name} was moved or opened elsewhere; the connector starts again from its place"
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
        """Make the subscription stand where the directory does; note where that is, if it was not known."""
        place = self._store.place
        if place is None:
            cursor = await self._created(exchange, self._settings.start)
        else:
            cursor = await self._moved_to(exchange, place)
        if not isinstance(place, bytes):
            await self._blocking(lambda: self._store.move(cursor))

    async def _created(self, exchange: Client, start: Start) -> bytes:
        settings = self._settings
        return (
            await exchange.create_subscription(self._name, settings.topic, settings.purpose, start)
        ).cursor

    async def _moved_to(self, exchange: Client, place: Start) -> bytes:
        try:
            return (await exchange.seek_subscription(self._name, place)).cursor
        except EntenteClientError as error:
            if error.reason == "POSITION_EXPIRED" and self._settings.on_expired == "earliest":
                return (await exchange.seek_subscription(self._name, "earliest")).cursor
            if error.reason != "SUBSCRIPTION_NOT_FOUND":
                raise
        return await self._created(exchange, place)

    # -- one session ----------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        """One stream, from its opening to its end or to the order to stop."""
        taken = self._taken = Taken(_IN_FLIGHT)
        stream = self._task.exchange.subscribe(
            self._settings.topic,
            self._settings.purpose,
            subscription=self._name,
            on_expired=self._settings.on_expired,
            max_in_flight=_IN_FLIGHT,
            # Each session begins where the directory stands, which a stream that reconnects by itself could not know.
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
            # What it could not acknowledge is in the directory all the same.
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

    async def _commit(self, stream: RecordStream, batches: Sequence[Delivery]) -> None:
        """Keep them, then tell the exchange. A change of policy holds nothing, and has no place of its own."""
        kept = [each for each in batches if each.policy_change is None]
        if not kept:
            return
        began_s = time.monotonic()
        await self._blocking(lambda: self._store.store(kept, kept[-1].cursor))
        self._moved = True
        self._stored_at_s = time.monotonic()
        self._task.progress.moved(len(kept), sum(each.size_bytes for each in kept))
        self._task.progress.lag_s = self._stored_at_s - began_s
        await stream.ack(kept[-1])

    async def _look(self, stream: RecordStream) -> None:
        """When all that came is kept: a heartbeat since then says that nothing waits, and has a later cursor."""
        await self._blocking(self._store.close_segment)
        if not self._taken.empty or self._task.gate.paused or not stream.caught_up:
            return
        self._task.progress.lag_s = 0.0
        self._task.progress.idle()
        if time.monotonic() - self._stored_at_s >= _IDLE_STORE_S:
            # Else a place where everything is withheld would fall out of retention.
            cursor = stream.cursor
            await self._blocking(lambda: self._store.move(cursor))
            self._stored_at_s = time.monotonic()


@dataclass(frozen=True, slots=True)
class FileSinkPlugin:
    """`plugin = "file-sink"`."""

    direction: Direction = "sink"
    settings: type[ConnectorSettings] = FileSinkSettings

    def make(self, name: str, settings: Any, directory: Path) -> FileSink:
        """See Plugin. What it must remember lies beside the records, where it cannot be lost without them."""
        return FileSink(name, settings)


PLUGIN = FileSinkPlugin()
