"""A clock that stands still until the test turns it."""

from __future__ import annotations


class TurnedClock:
    """Wall time and monotonic time, advanced together."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.wall_ms = now_ms
        self.steady_s = 1_000.0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.wall_ms

    def monotonic_s(self) -> float:
        """Seconds."""
        return self.steady_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.wall_ms += round(seconds * 1000)
        self.steady_s += seconds
