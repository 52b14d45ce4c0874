"""Where a stream stands: the next offset of each partition, and the owners that are behind it.

A record without a decision moves no position (design rule 1), and stalls its owner's records only (rule 8): the owner
lags in that partition from this record on, while the others' records go out. What is acknowledged is the least of both,
so a stream that ends meanwhile gets some records again, and loses none.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.ledger import JsonValue
from broker.model.record import Positions

MAX_LAGS = 32
"""Owners and partitions that may lag at once; then a further one stalls its whole partition."""


@dataclass(frozen=True, slots=True, order=True)
class Lag:
    """In this partition, the owner's records from `offset` to where the stream reads wait for a decision."""

    partition: int
    owner: str
    offset: int


@dataclass(frozen=True, slots=True)
class Standing:
    """next: the offset to read in each partition; lags: sorted."""

    next: Positions
    lags: tuple[Lag, ...] = ()

    @property
    def cursor(self) -> Positions:
        """The positions before which everything has been dealt with."""
        cursor = list(self.next)
        for lag in self.lags:
            cursor[lag.partition] = min(cursor[lag.partition], lag.offset)
        return tuple(cursor)

    def moved(self, positions: Positions) -> Standing:
        """The same lags, reading from `positions`."""
        return Standing(positions, self.lags)

    def as_json(self) -> JsonValue:
        """As the ledger shows it."""
        lags: list[JsonValue] = [[lag.partition, lag.owner, lag.offset] for lag in self.lags]
        return {"next": list(self.next), "lags": lags}


class Progress:
    """A standing while a batch is prepared."""

    def __init__(self, standing: Standing) -> None:
        self.next = list(standing.next)
        self._lags = {(lag.partition, lag.owner): lag.offset for lag in standing.lags}

    @property
    def has_lags(self) -> bool:
        """Whether records of any owner wait."""
        return bool(self._lags)

    def is_lagging(self, partition: int, owner: str) -> bool:
        """Whether this owner's records of the partition wait."""
        return (partition, owner) in self._lags

    def lag(self, partition: int, owner: str, offset: int) -> bool:
        """Let the owner's records from `offset` on wait; False if too many lag already."""
        if len(self._lags) >= MAX_LAGS:
            return False
        self._lags[partition, owner] = offset
        return True

    def caught_up_to(self, lag: Lag, offset: int) -> None:
        """The owner's records before `offset` are dealt with; a lag that reaches the reading position ends."""
        if offset >= self.next[lag.partition]:
            del self._lags[lag.partition, lag.owner]
        else:
            self._lags[lag.partition, lag.owner] = offset

    def standing(self) -> Standing:
        """What it has come to."""
        lags = (Lag(partition, owner, offset) for (partition, owner), offset in self._lags.items())
        return Standing(tuple(self.next), tuple(sorted(lags)))
