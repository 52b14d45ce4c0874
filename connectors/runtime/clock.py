"""The runtime's time: what waits and grows old is measured by one clock, which tests set."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two readings, and waiting."""

    def epoch_s(self) -> float:
        """Seconds of the Unix epoch, to be shown."""
        ...

    def steady_s(self) -> float:
        """Seconds that never go back, to be compared."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait that long by the steady reading."""
        ...


class SystemClock:
    """The machine's."""

    def epoch_s(self) -> float:
        """As of Clock."""
        return time.time()

    def steady_s(self) -> float:
        """As of Clock."""
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """As of Clock."""
        await asyncio.sleep(duration_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the runtime is, in seconds.

    first_s, longest_s: upper bounds of the first and of any pause before a failed task starts again; they double in
    between. proven_s: how long a task must run, if it moves nothing, for its next failure to count as the first.
    stop_s: what a task is given to finish, cancel_s: to end when it is cancelled. stalled_s: how long something may wait
    while nothing is moved; silent_s: how long a task may show no sign of life, longer than an exchange's heartbeats may be
    apart. watch_s: how often that is looked at. call_s: for a question or change of offsets. tell_s: how often a redrive
    tells how far it is.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    proven_s: float = 60.0
    stop_s: float = 20.0
    cancel_s: float = 5.0
    stalled_s: float = 60.0
    silent_s: float = 600.0
    watch_s: float = 5.0
    call_s: float = 30.0
    tell_s: float = 0.5

    def pause_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row: random between half the bound and the bound."""
        # The exponent is bounded so that a number of failures in the thousands stays a float.
        bound_s = min(self.first_s * 2.0 ** min(failures - 1, 30), self.longest_s)
        return bound_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
