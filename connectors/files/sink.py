"""The file sink: from a topic of the exchange into a directory, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.client import Client
from connectors.delivery import Delivery, Start
from connectors.files import disk
from connectors.files.settings import FileSinkSettings
from connectors.files.store import FileStore
from connectors.runtime.model import ConnectorFailed, Direction, Offset, Redriven
from connectors.runtime.places import decode_place, encode_place
from connectors.runtime.plugin import TaskContext
from connectors.runtime.settings import ConnectorSettings
from connectors.runtime.sink import SinkRun, Window
from connectors.runtime.takeovers import Takeovers

_WINDOW = Window(records=1_000)


class FileSink:
    """One directory, one subscription, one task."""

    tasks = 1

    def __init__(self, name: str, settings: FileSinkSettings) -> None:
        self._settings = settings
        self._subscription = settings.subscription_of(name)
        self._takeovers = Takeovers()

    async def run(self, task: TaskContext) -> None:
        """See Connector."""
        with self._held():
            directory = _Directory(self._store())
            try:
                await directory.open()
                name, takeovers = self._subscription, self._takeovers
                await SinkRun(task, self._settings, name, directory, _WINDOW, takeovers).run()
                await directory.complete()
            finally:
                await directory.let_go()

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


class _Directory:
    """As SinkStore: the directory, written by a thread, one call at a time."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._work: asyncio.Future[None] | None = None

    @property
    def place(self) -> Start | None:
        """As SinkStore.place."""
        return self._store.place

    async def open(self) -> None:
        """Before anything else."""
        await self._blocking(self._store.open)

    async def store(self, batches: Sequence[Delivery], cursor: bytes) -> int:
        """As SinkStore.store; a change of policy holds nothing."""
        kept = [each for each in batches if each.policy_change is None]
        if kept:
            await self._blocking(lambda: self._store.store(kept, cursor))
        return len(batches) - len(kept)

    async def move(self, cursor: bytes) -> None:
        """As SinkStore.move."""
        await self._blocking(lambda: self._store.move(cursor))

    async def look(self) -> None:
        """A segment that is old enough is complete."""
        await self._blocking(self._store.close_segment)

    async def still_own(self) -> None:
        """The directory is locked as long as the sink runs."""

    async def complete(self) -> None:
        """Give the last segment its name."""
        await self._blocking(lambda: self._store.close_segment(now=True))

    async def let_go(self) -> None:
        """A thread cannot be cancelled: the directory is given up only when nothing writes there any more."""
        if self._work is not None:
            await asyncio.wait({self._work})

    async def _blocking(self, work: Callable[[], None]) -> None:
        self._work = asyncio.ensure_future(asyncio.to_thread(work))
        await asyncio.shield(self._work)


@dataclass(frozen=True, slots=True)
class FileSinkPlugin:
    """`plugin = "file-sink"`."""

    direction: Direction = "sink"
    settings: type[ConnectorSettings] = FileSinkSettings

    def make(self, name: str, settings: Any, directory: Path) -> FileSink:
        """See Plugin. What it must remember lies beside the records, where it cannot be lost without them."""
        return FileSink(name, settings)


PLUGIN = FileSinkPlugin()
