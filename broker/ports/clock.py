"""Time, from one place, so that tests can turn it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z, never decreasing."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that no one sets."""
