"""Some of many, evenly."""

from __future__ import annotations

import math
from collections.abc import Iterator

_GOLDEN = (math.sqrt(5) - 1) / 2


def spread(count: int, most: int) -> Iterator[int]:
    """Each of `count` indexes if there are at most `most`; else so many of them, evenly and always the same."""
    if count <= most:
        yield from range(count)
        return
    step = max(1, int(count * _GOLDEN))
    while math.gcd(step, count) != 1:
        step += 1
    yield from (number * step % count for number in range(most))
