"""Bounded exponential backoff with jitter, so that clients of a restarted exchange do not return all at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long after one another a call is repeated.

    attempts: how often at most, the first one included; at least 1.
    first_s, longest_s: the upper bounds of the first and of any pause, in seconds; each doubles up to `longest_s`.
    """

    attempts: int = 6
    first_s: float = 0.1
    longest_s: float = 5.0

    def pauses_s(self) -> Iterator[float]:
        """The pauses between attempts, each random between half its bound and its bound: attempts - 1 of them."""
        bound_s = self.first_s
        for _ in range(self.attempts - 1):
            yield bound_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
            bound_s = min(bound_s * 2, self.longest_s)


RECONNECT = Retry(attempts=10, first_s=0.1, longest_s=10.0)
"""Default for streams: about a minute of attempts without progress, then the error is raised."""
