"""Keeps one task of a connector running: again after a failure, never once it was told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from connectors.runtime.causes import Failure, failure_of, out_of_memory, trail
from connectors.runtime.clock import Clock, Pace
from connectors.runtime.exchange import SharedClient
from connectors.runtime.model import State
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.progress import Progress
from connectors.runtime.stalling import StallWatch, treated
from connectors.runtime.status import TaskStatus

log = logging.getLogger(__name__)

Work = Callable[[TaskContext], Awaitable[None]]

_RETURNED = Failure("ended although nobody stopped it; it starts again, report it with the process's log")
_CANCELLED = Failure(
    "was cancelled although nobody stopped it; it starts again, report it with the process's log"
)
_STUCK = "was stopped and does not end; end the process, which gives back what the task holds"


class _Phase(Enum):
    """Where the supervision stands; what is shown follows from it."""

    IDLE = auto()
    BETWEEN = auto()
    WORKING = auto()
    WAITING = auto()


class SupervisedTask:
    """One task, and what is known of it. `died` is called if supervising itself ends with an error."""

    def __init__(
        self,
        name: str,
        number: int,
        work: Work,
        exchange: SharedClient,
        *,
        clock: Clock,
        pace: Pace,
        died: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.progress = Progress()
        self._name = name
        self._work = work
        self._exchange = exchange
        self._clock = clock
        self._pace = pace
        self._died = died
        self._watch = StallWatch(pace.stalled_s, pace.silent_s)
        self._supervision: asyncio.Task[None] | None = None
        self._gate = Gate()
        self._ended = asyncio.Event()
        self._paused = False
        self._phase = _Phase.IDLE
        self._failure: Failure | None = None
        self._retry_at_s: float | None = None
        self._began_s = 0.0
        self._began_with = dataclasses.replace(self.progress)
        self._stuck = False
        self._finished = True
        self._shown = State.STOPPED
        self._since_s = clock.epoch_s()

    # -- commands -------------------------------------------------------------------------------------------------

    def start(self, *, again: bool = False) -> None:
        """Begin, unless it runs. again: it is RESTARTING until it has shown that it works."""
        if not self.ended:
            return
        self._failure = (self._failure or Failure("restarted by command")) if again else None
        self._ended = asyncio.Event()
        self._finished = True
        self._phase = _Phase.BETWEEN
        self._supervision = asyncio.create_task(self._supervise(), name=f"{self._name}/{self.number}")
        self._supervision.add_done_callback(self._supervised)
        self._note()

    def pause(self, paused: bool) -> None:
        """Pause it, or let it go on; holds for later attempts too."""
        self._paused = paused
        self._gate.set(paused=paused)
        self._note()

    async def stop(self) -> bool:
        """End it; whether it finished by itself in time. What does not even end when cancelled stays FAILED."""
        supervision = self._supervision
        if supervision is None or supervision.done():
            return True
        self._ended.set()
        self._gate.set(stopping=True)
        done, _ = await asyncio.wait({supervision}, timeout=self._pace.stop_s)
        if not done:
            log.warning("connector %s task %d: did not finish in time, is cancelled", self._name, self.number)
            self._finished = False
            supervision.cancel()
            done, _ = await asyncio.wait({supervision}, timeout=self._pace.cancel_s)
            self._stuck = not done
        self._note()
        return self._finished

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs."""
        return self._supervision is None or self._supervision.done()

    @property
    def state(self) -> State:
        """Follows from what runs, never from what was last said."""
        if self._stuck:
            return State.FAILED
        match self._phase:
            case _Phase.IDLE:
                return State.STOPPED
            case _Phase.WAITING:
                return State.FAILED
            case _Phase.BETWEEN:
                return State.UNASSIGNED if self._failure is None else State.RESTARTING
            case _Phase.WORKING if self._gate.paused:
                return State.PAUSED
            case _Phase.WORKING:
                return State.RUNNING if self._works() else State.RESTARTING

    def look(self) -> None:
        """Let the watchdog compare; to be called now and then."""
        if self.state is State.RUNNING:
            self._watch.look(self._clock.steady_s(), self.progress)
        else:
            self._watch.forget()

    def status(self) -> TaskStatus:
        """A copy of what is known now."""
        self._note()
        failure = self._failure
        return TaskStatus(
            number=self.number,
            state=self._shown,
            since_s=self._since_s,
            cause=_STUCK if self._stuck else None if failure is None else failure.cause,
            retry_at_s=self._retry_at_s,
            stalled=self._watch.stalled and self._shown is State.RUNNING,
            progress=dataclasses.replace(self.progress),
        )

    def _works(self) -> bool:
        """After a failure it is believed only when it has moved something, seen that nothing waits, or run on."""
        if self._failure is None:
            return True
        now = self.progress
        if self._earned() or now.last_success_s != self._began_with.last_success_s:
            self._failure = None
        return self._failure is None

    def _earned(self) -> bool:
        """Whether a failure now is the first again: else what fails after each start would never wait longer."""
        ran_s = self._clock.steady_s() - self._began_s
        return treated(self.progress) > treated(self._began_with) or ran_s >= self._pace.proven_s

    def _note(self) -> None:
        state = self.state
        if state is not self._shown:
            self._shown = state
            self._since_s = self._clock.epoch_s()
            log.info("connector %s task %d: %s", self._name, self.number, state)

    # -- supervision ----------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        failures = 0
        while not self._ended.is_set():
            failure = await self._attempt()
            if failure is None:
                return
            failures = 1 if self._earned() else failures + 1
            self._finished = not self._ended.is_set()
            await self._wait(failure, failures)
            if not self._ended.is_set():
                self.progress.restarts += 1

    async def _attempt(self) -> Failure | None:
        """Run it once; None: it ended because it was told to."""
        self._phase = _Phase.BETWEEN
        self._began_s, self._began_with = self._clock.steady_s(), dataclasses.replace(self.progress)
        self._gate = Gate()
        self._gate.set(paused=self._paused, stopping=self._ended.is_set())
        try:
            async with self._exchange.lease() as client:
                self._phase = _Phase.WORKING
                self._note()
                try:
                    await self._work(TaskContext(self._name, self.number, client, self._gate, self.progress))
                finally:
                    # Giving the client back may take a moment, and nothing runs any more.
                    self._phase = _Phase.BETWEEN
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            return _CANCELLED
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises must not look like running
            return self._failed(error)
        finally:
            # What was known of the lag is not known any more, and must not look like none.
            self.progress.lag_records = self.progress.lag_s = None
        return None if self._gate.stopping else _RETURNED

    def _failed(self, error: Exception) -> Failure:
        if out_of_memory(error):
            raise MemoryError
        failure = failure_of(error)
        if failure.cause.startswith("unexpected "):
            log.error("connector %s task %d: %s", self._name, self.number, trail(error))
        return failure

    async def _wait(self, failure: Failure, failures: int) -> None:
        """Stand as failed until it is time to start again, or it is told to stop."""
        self._failure = failure
        if self._ended.is_set():
            log.warning(
                "connector %s task %d: %s; it was being stopped", self._name, self.number, failure.cause
            )
            return
        self._phase = _Phase.WAITING
        pause_s = None if failure.lasting else self._pace.pause_s(failures)
        self._retry_at_s = None if pause_s is None else self._clock.epoch_s() + pause_s
        self._note()
        remedy = "waits for `restart`" if pause_s is None else f"starts again in {pause_s:.1f} s"
        log.warning("connector %s task %d: %s; %s", self._name, self.number, failure.cause, remedy)
        ended = asyncio.create_task(self._ended.wait())
        waits = {ended} if pause_s is None else {ended, asyncio.create_task(self._clock.sleep(pause_s))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            self._retry_at_s = None

    def _supervised(self, supervision: asyncio.Task[None]) -> None:
        self._phase, self._stuck = _Phase.IDLE, False
        self._note()
        if not supervision.cancelled() and (error := supervision.exception()) is not None:
            self._died(error)


def _being_cancelled() -> bool:
    """Whether the supervision itself is being cancelled, rather than something that the plugin waited for."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0
