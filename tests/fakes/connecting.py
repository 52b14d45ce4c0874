"""Connectors that do what a test says, the clock of their runtime, and a client of no exchange."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.client import Client
from connectors.runtime.clock import Pace
from connectors.runtime.connector import SupervisedConnector
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.desired import DesiredStates
from connectors.runtime.exchange import SharedClient
from connectors.runtime.model import Direction, Offset, Redriven
from connectors.runtime.plugin import TaskContext
from connectors.runtime.settings import ConnectorSettings, ExchangeSettings, RetrySettings

QUICK = Pace(stop_s=30.0, cancel_s=30.0)
"""Bounds in real time that no test waits for unless it makes a task hang."""


class SetClock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def epoch_s(self) -> float:
        return 1_700_000_000.0 + self.now_s

    def steady_s(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> Coroutine[Any, Any, None]:
        # Counts from this call: a test may advance the clock before the coroutine takes its first step.
        return self._until(self.now_s + duration_s)

    async def _until(self, due_s: float) -> None:
        await asyncio.sleep(0)
        if self.now_s < due_s:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleeping.append((due_s, woken))
            await woken

    def advance(self, duration_s: float) -> None:
        self.now_s += duration_s
        due = [each for each in self._sleeping if each[0] <= self.now_s]
        self._sleeping = [each for each in self._sleeping if each[0] > self.now_s]
        for _, woken in due:
            if not woken.done():
                woken.set_result(None)


@dataclass
class Attempt:
    """One call of `run`, which ends as the test says, or when it is told to stop unless it is deaf."""

    task: TaskContext
    deaf: bool
    immortal: bool
    ending: asyncio.Future[None] = field(init=False)

    def __post_init__(self) -> None:
        self.ending = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        if not self.ending.done():
            self.ending.set_exception(error)

    def close(self) -> None:
        """It is over: what a test says from now on is not heard, and an error that nobody waited for is not missed."""
        if not self.ending.cancel() and not self.ending.cancelled():
            self.ending.exception()

    def finish(self) -> None:
        if not self.ending.done():
            self.ending.set_result(None)


class ScriptedConnector:
    """Tells what runs; `inside` counts the calls of `run` that have not returned, by task."""

    def __init__(self, tasks: int = 1) -> None:
        self.tasks = tasks
        self.inside = [0] * tasks
        self.attempts: list[list[Attempt]] = [[] for _ in range(tasks)]
        self.deaf = False
        self.immortal = False
        self.kept: list[Offset] = [Offset({"place": "a"}, {"offset": 7})]
        self.letters = 3
        self.error: Exception | None = None
        self.redriving: TaskContext | None = None
        self.released = asyncio.Event()

    def attempt(self, number: int = 0) -> Attempt:
        return self.attempts[number][-1]

    async def run(self, task: TaskContext) -> None:
        attempt = Attempt(task, self.deaf, self.immortal)
        self.attempts[task.number].append(attempt)
        self.inside[task.number] += 1
        try:
            await self._work(attempt)
        finally:
            self.inside[task.number] -= 1
            attempt.close()

    async def _work(self, attempt: Attempt) -> None:
        gate = attempt.task.gate
        while not (gate.stopping and not attempt.deaf):
            changed = asyncio.ensure_future(gate.changed())
            try:
                await asyncio.wait({changed, attempt.ending}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if not attempt.immortal:
                    raise
            finally:
                changed.cancel()
            if attempt.ending.done():
                attempt.ending.result()
                return

    async def check(self, exchange: Client) -> Sequence[str]:
        return []

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        if self.error is not None:
            raise self.error
        return self.kept

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        if self.error is not None:
            raise self.error
        assert self.inside == [0] * self.tasks
        if any("place" not in each.partition for each in offsets):
            raise ValueError("no partition of it; `offsets show` lists them")
        self.kept = list(offsets)

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        self.redriving = task
        if self.error is not None:
            raise self.error
        changed = asyncio.ensure_future(task.gate.changed())
        released = asyncio.ensure_future(self.released.wait())
        await asyncio.wait({changed, released}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        released.cancel()
        tried = 0 if task.gate.stopping else min(self.letters, most or self.letters)
        self.letters -= tried
        return Redriven(tried, 0)


class ScriptedPlugin:
    """Makes one connector, or raises."""

    settings = ConnectorSettings
    direction: Direction = "source"

    def __init__(self, connector: ScriptedConnector | Exception) -> None:
        self.connector = connector
        self.directory: Path | None = None

    def make(self, name: str, settings: Any, directory: Path) -> ScriptedConnector:
        self.directory = directory
        if isinstance(self.connector, Exception):
            raise self.connector
        return self.connector


class NoExchange:
    """Stands for the client: counts how often it is open."""

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0
        self.error: Exception | None = None

    async def __aenter__(self) -> NoExchange:
        if self.error is not None:
            raise self.error
        self.open += 1
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open -= 1


def definition(connector: ScriptedConnector | Exception, name: str = "crashes") -> ConnectorDefinition:
    exchange = ExchangeSettings(
        endpoint="127.0.0.1:1", token_env="ENTENTE_TEST_TOKEN", insecure_plaintext=True
    )
    settings = ConnectorSettings(
        plugin="scripted", topic="crash-reports", exchange=exchange, retry=RetrySettings(attempts=1)
    )
    return ConnectorDefinition(name, ScriptedPlugin(connector), settings)


@dataclass
class Rig:
    """One supervised connector and all that a test moves."""

    connector: ScriptedConnector
    supervised: SupervisedConnector
    clock: SetClock
    exchange: NoExchange
    died: list[BaseException]


def rig(directory: Path, tasks: int = 1, pace: Pace = QUICK) -> Rig:
    connector, clock, exchange = ScriptedConnector(tasks), SetClock(), NoExchange()
    died: list[BaseException] = []
    make: Callable[[], Any] = lambda: exchange  # noqa: E731
    supervised = SupervisedConnector(
        definition(connector),
        connector,
        DesiredStates.read(directory),
        SharedClient(make),
        clock=clock,
        pace=pace,
        died=died.append,
    )
    return Rig(connector, supervised, clock, exchange, died)


async def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Let the event loop turn until that holds; the limit is there for a broken test only."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to hold"
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def begun(one: Rig) -> Any:
    """The rig with its connector started; everything is ended afterwards."""
    await one.supervised.begin()
    try:
        yield one
    finally:
        one.connector.deaf = one.connector.immortal = False
        for attempts in one.connector.attempts:
            for attempt in attempts:
                attempt.finish()
        await one.supervised.leave()
