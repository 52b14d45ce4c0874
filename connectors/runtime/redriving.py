"""Tries a connector's dead letters again, beside its tasks, and tells how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from connectors.runtime.clock import Pace
from connectors.runtime.exchange import SharedClient
from connectors.runtime.model import Redriven
from connectors.runtime.plugin import Connector, Gate, TaskContext
from connectors.runtime.progress import Progress
from connectors.runtime.stalling import treated


class Redrive:
    """One redrive; ends when its caller leaves or `stop` is called."""

    def __init__(
        self, name: str, connector: Connector, exchange: SharedClient, most: int | None, pace: Pace
    ) -> None:
        self._name = name
        self._connector = connector
        self._exchange = exchange
        self._most = most
        self._pace = pace
        self._gate = Gate()
        self._progress = Progress()
        self._work: asyncio.Task[Redriven] | None = None

    async def run(self) -> AsyncGenerator[Redriven, None]:
        """Yields progress now and then, the result last. Raises what the connector raises."""
        self._work = asyncio.create_task(self._redriven(), name=f"{self._name}/redrive")
        while True:
            done, _ = await asyncio.wait({self._work}, timeout=self._pace.tell_s)
            if done:
                yield self._work.result()
                return
            again = self._progress.dead_lettered + self._progress.failed
            yield Redriven(treated(self._progress) + self._progress.failed, again)

    async def stop(self) -> None:
        """End it in order, and by force if that takes too long."""
        if self._work is None or self._work.done():
            return
        self._gate.set(stopping=True)
        done, _ = await asyncio.wait({self._work}, timeout=self._pace.stop_s)
        if not done:
            self._work.cancel()
            await asyncio.wait({self._work}, timeout=self._pace.cancel_s)

    async def _redriven(self) -> Redriven:
        number = self._connector.tasks
        async with self._exchange.lease() as client:
            task = TaskContext(self._name, number, client, self._gate, self._progress)
            return await self._connector.redrive(task, self._most)
