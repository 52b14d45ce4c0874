"""What a Kafka source has in hand: no commit goes beyond what was dealt with, and each partition's order is kept."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.kafka.lanes import Call, Lanes, Taken
from connectors.mapping.record import AgencyRecord

PARTITIONS = (0, 1, 2)
SOME = st.sets(st.sampled_from(PARTITIONS), min_size=1)


def record(offset: int, size: int = 1, at_ms: int | None = None) -> Taken:
    return Taken(offset, AgencyRecord(None, b"x" * size, (), at_ms), None)


def offsets_of(call: Call[int] | None) -> list[tuple[int, list[int]]]:
    assert call is not None
    return [(partition, [each.offset for each in records]) for partition, _, records in call.parts]


class Interleavings(RuleBasedStateMachine):
    """Polls, calls, commits, rebalances, evictions and crashes in any order.

    Kafka's side is `committed`, where the next owner begins. The exchange's side is `stored`: the first time each
    offset was stored, in that order; what comes again is acknowledged and changes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.stored: dict[int, list[int]] = {each: [] for each in PARTITIONS}
        self.begin()

    def begin(self) -> None:
        self.lanes: Lanes[int] = Lanes(50, 500)
        self.position = dict(self.committed)
        self.calls: list[Call[int]] = []

    def store(self, call: Call[int], first: int | None = None) -> None:
        """The exchange takes the call's records, all or the first ones."""
        for partition, records in [(partition, records) for partition, _, records in call.parts][:first]:
            known = self.stored[partition]
            known += [each.offset for each in records if each.offset not in known]

    def end(self, call: Call[int]) -> None:
        self.calls.remove(call)
        self.store(call)
        self.lanes.finished(call)

    @rule(partition=st.sampled_from(PARTITIONS), sizes=st.lists(st.integers(0, 60), min_size=1, max_size=8))
    def poll(self, partition: int, sizes: list[int]) -> None:
        first = self.position[partition]
        self.lanes.add(partition, [record(first + at, size) for at, size in enumerate(sizes)])
        self.position[partition] += len(sizes)

    @rule(most=st.integers(1, 10), most_bytes=st.integers(1, 200))
    def call(self, most: int, most_bytes: int) -> None:
        call = self.lanes.next_call(most, most_bytes)
        if call is None:
            return
        assert 0 < len(call.taken) <= most
        assert len(call.taken) == 1 or sum(each.size for each in call.taken) <= most_bytes
        under_way = {partition for each in self.calls for partition, lane, _ in each.parts if not lane.closed}
        assert under_way.isdisjoint(partition for partition, _, _ in call.parts)
        self.calls.append(call)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.calls)))

    @rule()
    def commit(self) -> None:
        offsets = self.lanes.to_commit()
        self.committed.update(offsets)
        self.lanes.committed(offsets)
        assert not self.lanes.to_commit()

    @rule(partitions=SOME, patient=st.booleans())
    def revoke(self, partitions: Collection[int], patient: bool) -> None:
        """With or without the time to wait for what is under way."""
        self.lanes.close(partitions)
        if patient:
            for call in [each for each in self.calls if {p for p, _, _ in each.parts} & set(partitions)]:
                self.end(call)
            assert not self.lanes.busy(partitions)
        self.committed.update(self.lanes.to_commit(partitions))
        self.lose(partitions)

    @rule(partitions=SOME)
    def lose(self, partitions: Collection[int]) -> None:
        self.lanes.drop(partitions)
        self.position.update({each: self.committed[each] for each in partitions})

    @rule(kept=st.integers(0, 3), first=st.integers(0, 2))
    def crash(self, kept: int, first: int) -> None:
        """Of the calls under way some were stored, and one in part; nobody learns which."""
        for call in self.calls[:kept]:
            self.store(call)
        for call in self.calls[kept : kept + 1]:
            self.store(call, first)
        self.begin()

    @invariant()
    def nothing_is_committed_that_was_not_stored(self) -> None:
        for partition in PARTITIONS:
            assert set(range(self.committed[partition])) <= set(self.stored[partition])

    @invariant()
    def each_partition_is_stored_in_order_without_gaps(self) -> None:
        assert all(found == list(range(len(found))) for found in self.stored.values())

    @invariant()
    def what_is_in_hand_is_counted(self) -> None:
        lanes = self.lanes._lanes.values()
        assert self.lanes.records == sum(len(lane.waiting) for lane in lanes)
        assert self.lanes.bytes == sum(each.size for lane in lanes for each in lane.waiting)

    def teardown(self) -> None:
        while self.calls:
            self.end(self.calls[0])
        while (call := self.lanes.next_call(10, 100)) is not None:
            self.calls.append(call)
            self.end(call)
        self.commit()
        assert self.lanes.records == 0
        assert all(self.committed[each] == self.position[each] for each in PARTITIONS)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def test_records_of_several_partitions_share_a_call_and_one_alone_may_exceed_the_bound() -> None:
    lanes: Lanes[int] = Lanes(100, 1_000)
    lanes.add(0, [record(0, 500), record(1, 5)])
    lanes.add(1, [record(7, 5), record(8, 5)])
    assert offsets_of(lanes.next_call(10, 100)) == [(0, [0])]
    assert offsets_of(lanes.next_call(10, 100)) == [(1, [7, 8])]
    assert lanes.next_call(10, 100) is None


def test_whoever_had_a_turn_comes_last() -> None:
    lanes: Lanes[int] = Lanes(100, 1_000)
    lanes.add(0, [record(each) for each in range(4)])
    lanes.add(1, [record(each) for each in range(4)])
    first = lanes.next_call(2, 100)
    assert offsets_of(first) == [(0, [0, 1])]
    assert first is not None
    lanes.finished(first)
    assert offsets_of(lanes.next_call(2, 100)) == [(1, [0, 1])]


def test_nothing_more_is_taken_when_either_bound_is_reached() -> None:
    lanes: Lanes[int] = Lanes(2, 100)
    lanes.add(0, [record(0)])
    assert not lanes.full
    lanes.add(0, [record(1)])
    assert lanes.full
    lanes.drop([0])
    lanes.add(0, [record(2, 100)])
    assert lanes.full


def test_what_lies_between_records_is_passed_only_when_nothing_is_in_hand() -> None:
    lanes: Lanes[int] = Lanes(10, 100)
    lanes.add(0, [record(4)])
    lanes.passed(0, 9)
    assert lanes.to_commit() == {}
    call = lanes.next_call(10, 100)
    lanes.passed(0, 9)
    assert lanes.to_commit() == {}
    assert call is not None
    lanes.finished(call)
    lanes.passed(0, 9)
    assert lanes.to_commit() == {0: 9}
    lanes.passed(0, 3)
    assert lanes.to_commit() == {0: 9}


def test_a_call_that_ends_after_its_partition_was_let_go_moves_nothing() -> None:
    lanes: Lanes[int] = Lanes(10, 100)
    lanes.add(0, [record(0), record(1)])
    call = lanes.next_call(1, 100)
    lanes.drop([0])
    lanes.add(0, [record(0), record(1)])
    assert call is not None
    lanes.finished(call)
    assert lanes.to_commit() == {}
    assert lanes.records == 2


@pytest.mark.parametrize(("times", "oldest"), [([], None), ([None], None), ([7, 5], 7), ([None, 5], None)])
def test_the_oldest_is_the_first_of_its_partition(times: list[int | None], oldest: int | None) -> None:
    lanes: Lanes[int] = Lanes(10, 100)
    lanes.add(0, [record(at, at_ms=each) for at, each in enumerate(times)])
    assert lanes.oldest_ms() == oldest
