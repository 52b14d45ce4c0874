"""Where streams stand, as entries have it: the JSON `{"lags":[[partition, owner, offset], …],"next":[offset, …]}`.

Equal standings are equal texts, so most are compared without being read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from broker.core.audit.opening import parse

Text = bytes
"""A standing in canonical form."""

_CACHE_LIMIT = 4_096


class Standing(NamedTuple):
    """A standing that was read. total: the sum of `next`, to count with."""

    next: list[int]
    lags: list[tuple[int, str, int]]
    total: int

    @property
    def cursor(self) -> list[int]:
        """The positions before which everything has been dealt with."""
        positions = list(self.next)
        for partition, _, offset in self.lags:
            positions[partition] = min(positions[partition], offset)
        return positions

    def has_dealt_with(self, partition: int, offset: int, owner: str) -> bool:
        """Whether a record of this owner lies before the standing, and waits for no decision."""
        if offset >= self.next[partition]:
            return False
        return not any(p == partition and o == owner and at <= offset for p, o, at in self.lags)


class Standings:
    """Reads standings; each is met at least twice, where a stretch ends and where the next one begins."""

    def __init__(self) -> None:
        self._known: dict[Text, Standing] = {}

    def read(self, text: Text) -> Standing:
        """Raises ValueError, LookupError or TypeError for what is none."""
        standing = self._known.get(text)
        if standing is None:
            if len(self._known) >= _CACHE_LIMIT:
                self._known.clear()
            standing = self._known[text] = read_standing(text)
        return standing


def read_standing(text: Text) -> Standing:
    """As Standings.read."""
    value = parse(text)
    positions, lags = value["next"], [(p, owner, at) for p, owner, at in value["lags"]]
    if any(type(position) is not int for position in positions):
        raise ValueError("no standing")
    return Standing(positions, lags, sum(positions))


def standing_text(value: Any) -> Text:
    """The text of a standing that was parsed with something else."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def beginning(positions: Sequence[int]) -> Text:
    """A standing without lags."""
    return standing_text({"lags": [], "next": list(positions)})


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
