"""The system's clock, as the Clock port."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time that never steps back within the process, and the monotonic clock."""

    def __init__(self) -> None:
        self._latest_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z, never decreasing; stands still after the wall clock was set back."""
        self._latest_ms = max(self._latest_ms, time.time_ns() // 1_000_000)
        return self._latest_ms

    def monotonic_s(self) -> float:
        """Seconds on a clock that no one sets."""
        return time.monotonic()
