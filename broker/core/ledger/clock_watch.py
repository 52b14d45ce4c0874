"""Notices when the wall clock was set: it is compared with the one that nobody sets."""

from __future__ import annotations

from dataclasses import dataclass

from broker.ports.clock import Clock

STEP_MS = 1_000
_SLEW_MS = 100


@dataclass(frozen=True, slots=True)
class ClockStep:
    """What the wall clock should have shown, and what it did (milliseconds since 1970)."""

    expected_ms: int
    found_ms: int


class ClockWatch:
    """Look often: what a clock drifts between two looks is forgiven, as it is while a time server slews it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._anchor = self._now()
        self._told_ms = -1

    def look(self) -> ClockStep | None:
        """A step of more than a second since the last one that was told.

        A wall clock that stands still, as the exchange's does after it was set back, is told of once, and again when it
        goes on.
        """
        (wall_ms, steady_ms), (found_ms, now_ms) = self._anchor, self._now()
        expected_ms = wall_ms + now_ms - steady_ms
        if abs(found_ms - expected_ms) < _SLEW_MS:
            self._anchor = found_ms, now_ms
        if abs(found_ms - expected_ms) < STEP_MS or found_ms == self._told_ms:
            return None
        self._anchor, self._told_ms = (found_ms, now_ms), found_ms
        return ClockStep(expected_ms, found_ms)

    def _now(self) -> tuple[int, int]:
        return self._clock.now_ms(), round(self._clock.monotonic_s() * 1_000)
