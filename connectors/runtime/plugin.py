"""What a connector implements, and what the runtime gives it.

A plugin is an entry point of the group `entente.connectors`: its name is what `plugin = ` names in a configuration file,
and it refers to an object that is a Plugin. Everything runs on one event loop; what blocks belongs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from connectors.client import Client
from connectors.runtime.model import Direction, Offset, Redriven
from connectors.runtime.progress import Progress
from connectors.runtime.settings import ConnectorSettings

ENTRY_POINTS = "entente.connectors"


class Gate:
    """Whether a connector's tasks are to work, to pause or to stop. Belongs to one event loop."""

    def __init__(self) -> None:
        self._paused = False
        self._stopping = False
        self._changed = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Take up nothing new; keep what is held (a place in a consumer group, a stream)."""
        return self._paused and not self._stopping

    @property
    def stopping(self) -> bool:
        """Finish what is begun, or give it back, and return from `run`."""
        return self._stopping

    def set(self, *, paused: bool | None = None, stopping: bool | None = None) -> None:
        """Change it, which wakes everybody who waits."""
        self._paused = self._paused if paused is None else paused
        self._stopping = self._stopping if stopping is None else stopping
        self._changed.set()
        self._changed = asyncio.Event()

    def changed(self) -> Coroutine[Any, Any, None]:
        """Wait for the next change after this call, also where the coroutine takes its first step later, as a task."""
        return _happened(self._changed)

    async def proceed(self) -> bool:
        """Wait while paused; True to go on, False to stop."""
        while self.paused:
            await self.changed()
        return not self._stopping


async def _happened(event: asyncio.Event) -> None:
    await event.wait()


class TaskContext:
    """What one task of a connector gets: who it is, the exchange, when to work, and where to count.

    exchange: an open client as the connector's principal, shared by its tasks. number: counts the tasks from 0.
    """

    def __init__(self, name: str, number: int, exchange: Client, gate: Gate, progress: Progress) -> None:
        self.name = name
        self.number = number
        self.exchange = exchange
        self.gate = gate
        self.progress = progress


class Connector(Protocol):
    """One configured connector. Several tasks of it may run at once."""

    @property
    def tasks(self) -> int:
        """How many."""
        ...

    async def run(self, task: TaskContext) -> None:
        """Work until the gate says stop, then finish and return.

        Raises ConnectorFailed, EntenteClientError and OSError; after a pause it is called again, for a task that has
        nothing left of the call before. Cancelled when stopping takes too long: what is not acknowledged by then must
        come again.
        """
        ...

    async def check(self, exchange: Client) -> Sequence[str]:
        """What would keep it from working, a line each, with the remedy; reaches out, changes nothing."""
        ...

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        """How far it has come; may be asked beside the tasks. Raises as `run`."""
        ...

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        """Go on from there; the runtime calls it only while no task runs. Raises ValueError for what is no offset of it."""
        ...

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        """Try its dead letters again, the oldest first, `most` of them at most (None: all that are there now).

        May run beside the tasks, one redrive at a time; `task.number` is one that no task has. `task.progress` tells
        meanwhile how far it is. Raises as `run`; ends early when the gate says stop.
        """
        ...


class Plugin(Protocol):
    """A kind of connector."""

    @property
    def direction(self) -> Direction:
        """Whether it brings records to the exchange or fetches them there."""
        ...

    @property
    def settings(self) -> type[ConnectorSettings]:
        """The keys of its table in a configuration file."""
        ...

    def make(self, name: str, settings: Any, directory: Path) -> Connector:
        """A connector of that name; `settings` are of the type above. Connects to nothing yet.

        directory: for what it must remember on disk; its own, may not exist yet. Raises ConfigurationRefused.
        """
        ...
