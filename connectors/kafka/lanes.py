"""What a source's task has in hand: records in order per partition, and how far each partition is dealt with.

A partition's records are in one call at a time, so that they reach the exchange in order and what is dealt with is always
without gaps; records of several partitions share calls, and several calls are under way at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from connectors.mapping.record import AgencyRecord
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

P = TypeVar("P", bound=Hashable)


@dataclass(slots=True)
class Taken:
    """One record in hand.

    event: what is to be published; None if nothing is, and `cause` then says why, or is None as well for a record that
    the mapping passes over. attempt: which delivery into dead letters the next one would be. size: bytes that count
    against the bounds.
    """

    offset: int
    record: AgencyRecord
    event: CloudEvent | None
    cause: str | None = None
    attempt: int = 1
    size: int = field(init=False)

    def __post_init__(self) -> None:
        key, value = self.record.key, self.record.value
        self.size = (0 if key is None else len(key)) + (0 if value is None else len(value))


@dataclass(slots=True)
class _Lane:
    """One partition. `reached`: the offset behind the last record dealt with; `told`: the one last committed."""

    waiting: deque[Taken] = field(default_factory=deque)
    under_way: bool = False
    closed: bool = False
    reached: int | None = None
    told: int | None = None


@dataclass(slots=True)
class Call(Generic[P]):
    """Records that travel together: for each partition its next ones, in order."""

    parts: list[tuple[P, _Lane, Sequence[Taken]]]

    @property
    def taken(self) -> list[Taken]:
        """All of them."""
        return [each for _, _, records in self.parts for each in records]


class Lanes(Generic[P]):
    """All partitions of a task. Belongs to one event loop."""

    def __init__(self, most_records: int, most_bytes: int) -> None:
        """Bounds of what is in hand; `add` may exceed them by what was asked for before they were reached."""
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._lanes: dict[P, _Lane] = {}
        self.records = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether to take nothing more for now."""
        return self.records >= self._most_records or self.bytes >= self._most_bytes

    def add(self, partition: P, taken: Sequence[Taken]) -> None:
        """Take records of a partition, the next ones in its order."""
        lane = self._lanes.setdefault(partition, _Lane())
        lane.waiting.extend(taken)
        self._count(taken, 1)

    def next_call(self, most_records: int, most_bytes: int) -> Call[P] | None:
        """The next records of partitions that have none under way; None if there are none. At least one record."""
        call: Call[P] = Call([])
        room, room_bytes = most_records, most_bytes
        for partition, lane in self._lanes.items():
            if room <= 0 or room_bytes <= 0:
                break
            if lane.under_way or not lane.waiting:
                continue
            found = _head(lane.waiting, room, room_bytes, at_least_one=not call.parts)
            if not found:
                break
            room -= len(found)
            room_bytes -= sum(each.size for each in found)
            lane.under_way = True
            call.parts.append((partition, lane, found))
        for partition, lane, _ in call.parts:
            # Whoever had a turn comes last in the next round.
            del self._lanes[partition]
            self._lanes[partition] = lane
        return call if call.parts else None

    def finished(self, call: Call[P]) -> None:
        """All records of a call are dealt with for good; those of partitions let go of meanwhile count no more."""
        for _, lane, records in call.parts:
            lane.under_way = False
            lane.reached = records[-1].offset + 1
            for _ in range(len(records) if not lane.closed else 0):
                lane.waiting.popleft()
            self._count(records if not lane.closed else (), -1)

    def passed(self, partition: P, position: int) -> None:
        """The consumer stands there, and all that it has taken before was added: what lies between is no record."""
        lane = self._lanes.setdefault(partition, _Lane())
        if not lane.waiting and not lane.under_way and not lane.closed:
            lane.reached = max(position, lane.reached or 0)

    def to_commit(self, partitions: Collection[P] | None = None) -> dict[P, int]:
        """How far partitions (default all) are dealt with without a gap, where that is news."""
        return {
            partition: lane.reached
            for partition, lane in self._lanes.items()
            if lane.reached is not None
            and lane.reached != lane.told
            and (partitions is None or partition in partitions)
        }

    def committed(self, offsets: Mapping[P, int]) -> None:
        """These are durable."""
        for partition, offset in offsets.items():
            if partition in self._lanes:
                self._lanes[partition].told = offset

    def close(self, partitions: Collection[P]) -> None:
        """Begin no further calls with records of these; what is under way goes on."""
        for partition in partitions:
            lane = self._lanes.get(partition)
            if lane is not None and not lane.closed:
                self._count(lane.waiting, -1)
                lane.waiting.clear()
                lane.closed = True

    def busy(self, partitions: Collection[P]) -> bool:
        """Whether something of these is under way."""
        return any(partition in self._lanes and self._lanes[partition].under_way for partition in partitions)

    def drop(self, partitions: Collection[P]) -> None:
        """Forget these; records that are still under way count for nothing here."""
        self.close(partitions)
        for partition in partitions:
            self._lanes.pop(partition, None)

    def oldest_ms(self) -> int | None:
        """The earliest time of a record in hand, of the first of each partition; None if there is none."""
        heads = [lane.waiting[0].record.timestamp_ms for lane in self._lanes.values() if lane.waiting]
        return min((at_ms for at_ms in heads if at_ms is not None), default=None)

    def _count(self, taken: Collection[Taken], sign: int) -> None:
        self.records += sign * len(taken)
        self.bytes += sign * sum(each.size for each in taken)


def _head(waiting: deque[Taken], room: int, room_bytes: int, *, at_least_one: bool) -> list[Taken]:
    found: list[Taken] = []
    for each in islice(waiting, room):
        room_bytes -= each.size
        if room_bytes < 0 and (found or not at_least_one):
            break
        found.append(each)
    return found
