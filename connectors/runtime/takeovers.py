"""Tells two programs that take one subscription from each other without end from somebody who moved it once."""

from __future__ import annotations

WITHIN_S = 120.0
"""Longer than a failed task waits before it starts again."""


class Takeovers:
    """Of one connector, over all attempts of its task."""

    def __init__(self) -> None:
        self._last_s: float | None = None

    def recur(self, now_s: float) -> bool:
        """Note one, at a time of a steady clock; whether the one before it was lately."""
        before_s, self._last_s = self._last_s, now_s
        return before_s is not None and now_s - before_s < WITHIN_S
