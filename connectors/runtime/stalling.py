"""Notices a task that runs and gets nowhere: something waits and nothing is moved, or it shows no sign of life at all."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.runtime.progress import Progress


def treated(progress: Progress) -> int:
    """Records that are dealt with for good."""
    return progress.records + progress.skipped + progress.dead_lettered


@dataclass(frozen=True, slots=True)
class _Sight:
    at_s: float
    lag: float
    treated: int
    last_success_s: float | None

    @property
    def told(self) -> tuple[float, int, float | None]:
        """What changes if anything goes on at all."""
        return self.lag, self.treated, self.last_success_s


class StallWatch:
    """Compares what a task tells of itself from one look to the next; times are of a steady clock, in seconds.

    window_s: how long something may wait. silent_s: how long nothing at all may change in what the task tells.
    """

    def __init__(self, window_s: float, silent_s: float) -> None:
        self._window_s = window_s
        self._silent_s = silent_s
        self._waiting: _Sight | None = None
        self._alive: _Sight | None = None
        self.stalled = False

    def forget(self) -> None:
        """Begin anew: the task is not working."""
        self._waiting = self._alive = None
        self.stalled = False

    def look(self, now_s: float, progress: Progress) -> None:
        """Take a look. A lag in seconds counts before one in records, which new records make larger without a fault."""
        lag = progress.lag_s if progress.lag_s is not None else progress.lag_records
        seen = _Sight(now_s, float(lag or 0), treated(progress), progress.last_success_s)
        if self._alive is None or seen.told != self._alive.told:
            self._alive = seen
        waiting = self._waiting
        if waiting is None or not lag or seen.lag < waiting.lag or seen.treated != waiting.treated:
            self._waiting = waiting = seen
        self.stalled = now_s - waiting.at_s >= self._window_s or now_s - self._alive.at_s >= self._silent_s
