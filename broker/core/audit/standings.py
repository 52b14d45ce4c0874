"""Where streams stand, as entries have it: `{"next": [offset, …], "lags": [[partition, owner, offset], …]}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Standing = dict[str, Any]


def beginning(positions: Sequence[int]) -> Standing:
    """A standing without lags."""
    return {"next": list(positions), "lags": []}


def cursor(standing: Standing) -> list[int]:
    """The positions before which everything has been dealt with."""
    positions = list(standing["next"])
    for partition, _, offset in standing["lags"]:
        positions[partition] = min(positions[partition], offset)
    return positions


def dealt_with(standing: Standing, partition: int, offset: int, owner: str) -> bool:
    """Whether a record of this owner lies before the standing, and waits for no decision."""
    if offset >= standing["next"][partition]:
        return False
    return not any(p == partition and o == owner and at <= offset for p, o, at in standing["lags"])


def within(low: Sequence[int], positions: Sequence[int], high: Sequence[int] | None) -> bool:
    """Whether positions lie between two others, None for no upper bound; those of another topic never do."""
    if len(low) != len(positions) or (high is not None and len(high) != len(positions)):
        return False
    return all(a <= b for a, b in zip(low, positions, strict=True)) and (
        high is None or all(b <= c for b, c in zip(positions, high, strict=True))
    )


def greatest(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Partition by partition the greater of two; raises ValueError for different topics."""
    return [max(a, b) for a, b in zip(one, other, strict=True)]
