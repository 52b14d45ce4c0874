"""One connector as it runs: its tasks, what it was told, and what can be asked of it meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from connectors.client import Client
from connectors.runtime.causes import failure_of, one_line, out_of_memory
from connectors.runtime.clock import Clock, Pace
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.desired import DesiredStates
from connectors.runtime.exchange import SharedClient
from connectors.runtime.model import Offset, Redriven, State
from connectors.runtime.plugin import Connector
from connectors.runtime.redriving import Redrive
from connectors.runtime.status import ConnectorStatus, TaskStatus
from connectors.runtime.task import SupervisedTask

log = logging.getLogger(__name__)


class CommandRefused(Exception):
    """A command that is not carried out; one line with the remedy, and HTTP's status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SupervisedConnector:
    """Carries out commands one after another; nothing runs before `begin`."""

    def __init__(
        self,
        definition: ConnectorDefinition,
        connector: Connector,
        desired: DesiredStates,
        exchange: SharedClient,
        *,
        clock: Clock,
        pace: Pace,
        died: Callable[[BaseException], None],
    ) -> None:
        self.name = definition.name
        self._definition = definition
        self._connector = connector
        self._desired = desired
        self._exchange = exchange
        self._pace = pace
        self._died = died
        self._commands = asyncio.Lock()
        self._leaving = False
        self._redrive: Redrive | None = None
        self._tasks = [
            SupervisedTask(self.name, number, connector.run, exchange, clock=clock, pace=pace, died=died)
            for number in range(connector.tasks)
        ]

    @property
    def wanted(self) -> State:
        """RUNNING, PAUSED or STOPPED."""
        return self._desired.of(self.name)

    # -- commands -------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Do what is wanted, as it was kept."""
        async with self._commands:
            await self._obey()

    async def pause(self) -> None:
        """Raises CommandRefused, as all commands."""
        await self._want(State.PAUSED)

    async def resume(self) -> None:
        """Work again."""
        await self._want(State.RUNNING)

    async def stop(self) -> None:
        """Returns when no task runs any more; else raises CommandRefused, and it stays wanted."""
        await self._want(State.STOPPED)
        if not self._ended():
            raise self._stuck()

    async def restart(self, number: int | None) -> None:
        """Restart all tasks, or the one of that number."""
        chosen = [task for task in self._tasks if number is None or task.number == number]
        if not chosen:
            raise CommandRefused(
                f"{self.name}: has no task {number}; it has {len(self._tasks)}, counted from 0", 404
            )
        async with self._command():
            if self.wanted is State.STOPPED:
                raise CommandRefused(f"{self.name}: is STOPPED; use `resume`", 409)
            await asyncio.gather(*(task.stop() for task in chosen))
            stuck = [task for task in chosen if not task.ended]
            for task in chosen:
                task.start(again=True)
            if stuck:
                raise self._stuck()

    async def leave(self) -> bool:
        """End everything because the process ends; what is wanted stays. Whether all finished by itself in time."""
        self._leaving = True
        redrive = self._redrive
        if redrive is not None:
            await redrive.stop()
        async with self._commands:
            finished = await asyncio.gather(*(task.stop() for task in self._tasks))
        return all(finished) and self._ended()

    async def _want(self, wanted: State) -> None:
        async with self._command():
            try:
                self._desired.set(self.name, wanted)
            except OSError as error:
                raise CommandRefused(
                    f"{self.name}: state.json: {error.strerror}; nothing was changed", 500
                ) from None
            log.info("connector %s: is to be %s", self.name, wanted)
            await self._obey()

    async def _obey(self) -> None:
        if self.wanted is State.STOPPED:
            await asyncio.gather(*(task.stop() for task in self._tasks))
            return
        for task in self._tasks:
            task.pause(self.wanted is State.PAUSED)
            task.start()

    @asynccontextmanager
    async def _command(self) -> AsyncIterator[None]:
        async with self._commands:
            if self._leaving:
                raise CommandRefused(f"{self.name}: the process is ending", 409)
            yield

    # -- offsets and dead letters ---------------------------------------------------------------------------------

    async def offsets(self) -> list[Offset]:
        """How far it has come, whether it runs or not."""
        async with self._asked() as client:
            return list(await self._connector.offsets(client))

    async def alter_offsets(self, offsets: Sequence[Offset]) -> list[Offset]:
        """The offsets afterwards."""
        async with self._command():
            if self.wanted is not State.STOPPED or not self._ended():
                raise CommandRefused(
                    f"{self.name}: offsets can be altered only while it is STOPPED; use `stop`", 409
                )
            if self._redrive is not None:
                raise CommandRefused(f"{self.name}: dead letters are being redriven; wait for the end", 409)
            async with self._asked() as client:
                await self._alter(client, offsets)
                log.warning("connector %s: its offsets were altered", self.name)
                return list(await self._connector.offsets(client))

    async def _alter(self, client: Client, offsets: Sequence[Offset]) -> None:
        try:
            await self._connector.alter_offsets(client, offsets)
        except ValueError as error:
            raise CommandRefused(one_line(f"{self.name}: {error}"), 400) from None

    async def redrive(self, most: int | None) -> AsyncGenerator[Redriven, None]:
        """Yields how far it is, and last what was done. Leaving early ends it in order."""
        if self._redrive is not None:
            raise CommandRefused(f"{self.name}: dead letters are being redriven already", 409)
        if self._leaving or self._commands.locked():
            raise CommandRefused(f"{self.name}: another command is under way; try again after it", 409)
        self._redrive = Redrive(self.name, self._connector, self._exchange, most, self._pace)
        try:
            async with aclosing(self._redrive.run()) as told:
                async for redriven in told:
                    yield redriven
        except Exception as error:  # noqa: BLE001 - what a plugin raises becomes one line
            raise self._could_not(error) from None
        finally:
            await self._redrive.stop()
            self._redrive = None

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Client]:
        """An open client for a question; what a plugin raises becomes one line."""
        try:
            async with asyncio.timeout(self._pace.call_s), self._exchange.lease() as client:
                yield client
        except TimeoutError:
            raise CommandRefused(
                f"{self.name}: no answer within {self._pace.call_s:.0f} s; try again", 502
            ) from None
        except Exception as error:  # noqa: BLE001 - what a plugin raises becomes one line
            raise self._could_not(error) from None

    def _could_not(self, error: Exception) -> CommandRefused:
        if isinstance(error, CommandRefused):
            return error
        if out_of_memory(error):
            self._died(error)
        return CommandRefused(f"{self.name}: {failure_of(error).cause}", 502)

    # -- what is known --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Let the watchdog look at each task, and start what ended too late for the command that was to restart it."""
        idle = self._leaving or self._commands.locked() or self.wanted is State.STOPPED
        for task in self._tasks:
            task.look()
            if task.ended and not idle:
                task.start(again=True)

    def status(self) -> ConnectorStatus:
        """What is known now."""
        tasks = tuple(task.status() for task in self._tasks)
        state = state_of(tasks)
        return ConnectorStatus(
            name=self.name,
            plugin=self._definition.settings.plugin,
            direction=self._definition.plugin.direction,
            topic=self._definition.settings.topic,
            state=state,
            wanted=self.wanted,
            cause=cause_of(tasks),
            tasks=tasks,
        )

    def _stuck(self) -> CommandRefused:
        return CommandRefused(f"{self.name}: a task does not end; end the process, then start it again", 409)

    def _ended(self) -> bool:
        return all(task.ended for task in self._tasks)


def state_of(tasks: Sequence[TaskStatus]) -> State:
    """The state of a connector whose tasks are in these. Of a mixture none is said that only some of them are in."""
    states = {task.state for task in tasks}
    if State.FAILED in states and len(states) > 1:
        return State.DEGRADED
    if any(task.stalled for task in tasks):
        return State.DEGRADED
    if len(states) == 1:
        return states.pop()
    return State.RESTARTING if State.RESTARTING in states else State.UNASSIGNED


def cause_of(tasks: Sequence[TaskStatus]) -> str | None:
    """The first that is told, with the task's number where there are several."""
    for task in tasks:
        cause = task.cause or (_stalled(task) if task.stalled else None)
        if cause is not None:
            return cause if len(tasks) == 1 else f"task {task.number}: {cause}"
    return None


def _stalled(task: TaskStatus) -> str:
    lag_s, records = task.progress.lag_s, task.progress.lag_records
    if lag_s:
        waits = f"what waits is {lag_s:.0f} s old"
    else:
        waits = f"{records} records wait" if records else "nor does it tell that nothing waits"
    return f"runs and moves nothing: {waits}; see the process's log, then `restart`"
