"""Notices a task that runs and gets nowhere: something waits, grows no younger, and nothing is moved."""

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


class StallWatch:
    """Compares what a task tells of itself from one look to the next."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._since: _Sight | None = None
        self.stalled = False

    def forget(self) -> None:
        """Begin anew: the task is not working."""
        self._since = None
        self.stalled = False

    def look(self, now_s: float, progress: Progress) -> None:
        """Take a look. A lag in seconds counts before one in records, which new records make larger without a fault."""
        lag = progress.lag_s if progress.lag_s is not None else progress.lag_records
        if not lag:
            self.forget()
            return
        seen = _Sight(now_s, float(lag), treated(progress))
        if self._since is None or seen.treated != self._since.treated or seen.lag < self._since.lag:
            self._since = seen
        self.stalled = now_s - self._since.at_s >= self._window_s
