"""Lives of subscriptions: each start is where the stream before it was acknowledged, or where a call moved it.

Streams of one subscription follow each other by epoch, on whichever instance; what calls do has no epoch and is placed
by its index, among entries of one instance, else by its time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from broker.core.audit.chunk import Change, Whose
from broker.core.audit.findings import Findings
from broker.core.audit.standings import within

SKEW_MS = 300_000
"""How far the clocks of two instances may be apart before the order of their entries is misjudged."""


@dataclass(frozen=True, slots=True)
class StreamLife:
    """A named stream. begin: where it began. least, greatest: between which its acknowledged position lies at its end, None
    if that is open.
    """

    instance: str
    index: int
    time_ms: int
    epoch: int
    came_from: list[int] | None
    begin: list[int]
    least: list[int]
    greatest: list[int] | None


@dataclass(frozen=True, slots=True)
class _Placed:
    instance: str
    change: Change


class Lives:
    """Collects streams and changes, and joins them at the end."""

    def __init__(self) -> None:
        self._streams: defaultdict[Whose, list[StreamLife]] = defaultdict(list)
        self._changes: defaultdict[Whose, list[_Placed]] = defaultdict(list)

    def stream(self, whose: Whose, life: StreamLife) -> None:
        """A stream that is over, or the ledger's end has come."""
        self._streams[whose].append(life)

    def change(self, instance: str, change: Change) -> None:
        """What a call did."""
        self._changes[change.whose].append(_Placed(instance, change))

    def join(self, findings: Findings, *, complete: bool) -> None:
        """Find what does not join.

        Unless all entries are there and open, what comes before a subscription's first stream may be unknown, and what does
        not join is remarked only.
        """
        note = findings.fault if complete else findings.remark
        for whose in sorted(self._streams.keys() | self._changes.keys()):
            streams = sorted(self._streams.get(whose, ()), key=lambda life: life.epoch)
            changes = self._changes.get(whose, [])
            for one, after in pairwise(streams):
                if one.epoch == after.epoch:
                    note(
                        after.instance, after.index, f"two streams of a subscription have epoch {after.epoch}"
                    )
            for number, life in enumerate(streams):
                before = streams[number - 1] if number else None
                unknown = before is None and not complete
                if not unknown and not _leads_to(life, before, changes):
                    note(life.instance, life.index, _GAP)
            for placed in changes:
                if complete and not _precedes(placed, streams, changes):
                    note(placed.instance, placed.change.index, _GAP)


_GAP = "a subscription goes on from where neither its last stream nor a call has left it"


def _leads_to(life: StreamLife, before: StreamLife | None, changes: list[_Placed]) -> bool:
    came_from = life.came_from
    if came_from is None:
        return True
    if before is not None and within(before.least, came_from, before.greatest):
        return True
    return any(
        placed.change.to == came_from
        for placed in changes
        if _may_precede(placed.instance, placed.change.index, placed.change.time_ms, life)
        and (
            before is None or _may_follow(placed.instance, placed.change.index, placed.change.time_ms, before)
        )
    )


def _precedes(placed: _Placed, streams: list[StreamLife], changes: list[_Placed]) -> bool:
    change = placed.change
    came_from = change.came_from
    if came_from is None:
        return True
    # A call says where it found the subscription before it moves it: the stream may acknowledge more in between.
    if any(
        within(life.begin, came_from, life.greatest)
        for life in streams
        if _may_follow(placed.instance, change.index, change.time_ms, life)
    ):
        return True
    return any(
        other.change.to == came_from
        for other in changes
        if other is not placed
        and _in_order(
            (other.instance, other.change.index, other.change.time_ms),
            (placed.instance, change.index, change.time_ms),
        )
    )


def _may_precede(instance: str, index: int, time_ms: int, life: StreamLife) -> bool:
    return _in_order((instance, index, time_ms), (life.instance, life.index, life.time_ms))


def _may_follow(instance: str, index: int, time_ms: int, life: StreamLife) -> bool:
    return _in_order((life.instance, life.index, life.time_ms), (instance, index, time_ms))


def _in_order(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    """Whether one entry may be the earlier of two."""
    if one[0] == other[0]:
        return one[1] < other[1]
    return one[2] <= other[2] + SKEW_MS
