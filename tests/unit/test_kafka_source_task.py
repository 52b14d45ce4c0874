"""A task of a Kafka source: what it commits, holds back and gives up, whatever ends first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from kafka import TopicPartition

from connectors.kafka import source_task
from connectors.kafka.lanes import Taken
from connectors.kafka.letting_go import Offsets, Owner
from connectors.kafka.reader import Sight
from connectors.kafka.source_task import SourceTask
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.progress import Progress

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def records(first: int, count: int, at_ms: int | None = None) -> list[Taken]:
    return [
        Taken(first + each, AgencyRecord(None, b"v", (), at_ms, {"offset": str(first + each)}), None)
        for each in range(count)
    ]


class ScriptedReader:
    """Gives what a test puts in; lets go of everything when it is closed, as a consumer does."""

    def __init__(self) -> None:
        self.coming: deque[Mapping[TopicPartition, Sequence[Taken]]] = deque()
        self.committed: dict[TopicPartition, int] = {}
        self.commits: list[Offsets] = []
        self.holds: list[bool] = []
        self.ends: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.closed = False
        self.still_mine = True
        self.owner: Owner | None = None

    async def open(self, owner: Owner) -> None:
        self.owner = owner

    async def poll(self, timeout_s: float, *, hold: bool) -> Mapping[TopicPartition, Sequence[Taken]]:
        self.holds.append(hold)
        await asyncio.sleep(0)
        return self.coming.popleft() if self.coming and not hold else {}

    async def commit(self, offsets: Offsets) -> bool:
        self.commits.append(dict(offsets))
        if self.still_mine:
            self.committed.update(offsets)
        return self.still_mine

    async def look(self) -> Sight:
        return Sight(self.positions, self.ends)

    async def close(self) -> None:
        self.closed = True
        await self.let_go({A, B})

    async def let_go(self, partitions: Collection[TopicPartition]) -> Offsets:
        """As kafka-python's listener does it."""
        settled: asyncio.Future[Offsets] = asyncio.get_running_loop().create_future()
        assert self.owner is not None
        self.owner.let_go(partitions, settled.set_result)
        offsets = await settled
        self.committed.update(offsets)
        self.owner.forget(partitions)
        return offsets


class Treatment:
    """Each call waits until a test ends it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.ends: deque[asyncio.Future[None]] = deque()
        self.cancelled = 0

    async def treat(self, taken: Sequence[Taken]) -> None:
        self.calls.append([each.offset for each in taken])
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        try:
            await end
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def end(self) -> None:
        self.ends.popleft().set_result(None)


class Running:
    """A task at work."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.progress = Progress()
        self.reader = ScriptedReader()
        self.treatment = Treatment()
        context = TaskContext("crashes", 0, cast(Any, None), self.gate, self.progress)
        self.task = SourceTask(context, self.reader, self.treatment)
        self.run = asyncio.create_task(self.task.run())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                if self.run.done():
                    self.run.result()
                await asyncio.sleep(0)

    async def stop(self) -> None:
        self.gate.set(stopping=True)
        async with asyncio.timeout(30):
            await self.run


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    made = Running()
    try:
        yield made
    finally:
        made.run.cancel()
        await asyncio.gather(made.run, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_task, "COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr(source_task, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(source_task, "HOLD_S", 0.001)
    monkeypatch.setattr(source_task, "CALL_RECORDS", 2)


async def test_what_is_treated_is_committed_and_nothing_beyond_it() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 3), B: records(10, 2)})
        await at_work.until(lambda: len(at_work.treatment.calls) == 2)
        assert at_work.treatment.calls == [[0, 1], [10, 11]]
        assert at_work.reader.committed == {}
        at_work.treatment.end()
        await at_work.until(lambda: at_work.reader.committed)
        assert at_work.reader.committed == {A: 2}
        await at_work.until(lambda: len(at_work.treatment.calls) == 3)
        assert at_work.treatment.calls[2] == [2]
        at_work.treatment.end()
        at_work.treatment.end()
        await at_work.until(lambda: at_work.reader.committed == {A: 3, B: 12})


async def test_stopping_ends_what_is_under_way_commits_it_and_sends_nothing_more() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 5)})
        await at_work.until(lambda: at_work.treatment.calls)
        at_work.gate.set(stopping=True)
        at_work.treatment.end()
        await at_work.stop()
        assert at_work.treatment.calls == [[0, 1]]
        assert at_work.reader.committed == {A: 2}
        assert at_work.reader.closed


async def test_a_failure_ends_the_task_and_commits_only_what_was_treated() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 2), B: records(0, 2)})
        await at_work.until(lambda: len(at_work.treatment.calls) == 2)
        at_work.treatment.ends[1].set_result(None)
        at_work.treatment.ends[0].set_exception(ConnectorFailed("ID_REUSED"))
        with pytest.raises(ConnectorFailed, match="ID_REUSED"):
            await at_work.run
        assert at_work.reader.closed
        assert at_work.reader.committed == {B: 2}


async def test_cancelled_it_cancels_its_calls_and_gives_everything_back() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 2), B: records(0, 2)})
        await at_work.until(lambda: len(at_work.treatment.calls) == 2)
        at_work.run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await at_work.run
        assert at_work.treatment.cancelled == 2
        assert at_work.reader.closed
        assert at_work.reader.committed == {}


async def test_a_partition_is_let_go_when_what_is_under_way_is_treated_and_no_more_begun() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 4), B: records(0, 2)})
        await at_work.until(lambda: len(at_work.treatment.calls) == 2)
        letting_go = asyncio.create_task(at_work.reader.let_go({A}))
        await asyncio.sleep(0)
        at_work.treatment.ends[1].set_result(None)  # B's
        await at_work.until(lambda: at_work.reader.committed == {B: 2})
        assert not letting_go.done()
        at_work.treatment.end()
        await letting_go
        assert at_work.reader.committed == {A: 2, B: 2}
        at_work.reader.coming.append({A: records(2, 2)})  # assigned again
        await at_work.until(lambda: len(at_work.treatment.calls) == 3)
        assert at_work.treatment.calls[2] == [2, 3]


async def test_a_partition_is_let_go_uncommitted_when_its_call_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_task, "LET_GO_S", 0.01)
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 2)})
        await at_work.until(lambda: at_work.treatment.calls)
        assert await at_work.reader.let_go({A}) == {}
        at_work.treatment.end()
        await at_work.until(lambda: len(at_work.reader.holds) > 50)
        assert at_work.reader.committed == {}


async def test_partitions_that_were_lost_are_not_committed() -> None:
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 2), B: records(0, 2)})
        await at_work.until(lambda: len(at_work.treatment.calls) == 2)
        at_work.task.forget({A})
        at_work.treatment.end()
        at_work.treatment.end()
        await at_work.until(lambda: at_work.reader.committed)
        assert at_work.reader.committed == {B: 2}


async def test_a_commit_that_came_too_late_is_not_taken_for_done() -> None:
    async with running() as at_work:
        at_work.reader.still_mine = False
        at_work.reader.coming.append({A: records(0, 2)})
        await at_work.until(lambda: at_work.treatment.calls)
        at_work.treatment.end()
        await at_work.until(lambda: len(at_work.reader.commits) >= 2)
        assert at_work.reader.commits[:2] == [{A: 2}, {A: 2}]


async def test_paused_it_stays_in_the_group_and_sends_nothing() -> None:
    async with running() as at_work:
        await at_work.until(lambda: at_work.reader.holds)
        at_work.gate.set(paused=True)
        await at_work.until(lambda: at_work.reader.holds[-1])
        at_work.reader.coming.append({A: records(0, 2)})
        at_work.gate.set(paused=True)  # wakes it once more
        seen = len(at_work.reader.holds)
        await at_work.until(lambda: len(at_work.reader.holds) > seen)
        assert at_work.reader.holds[-1]
        assert at_work.treatment.calls == []
        at_work.gate.set(paused=False)
        await at_work.until(lambda: at_work.treatment.calls == [[0, 1]])


async def test_nothing_is_taken_while_too_much_is_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_task, "MOST_RECORDS", 3)
    async with running() as at_work:
        at_work.reader.coming.append({A: records(0, 4)})
        at_work.reader.coming.append({A: records(4, 1)})
        await at_work.until(lambda: at_work.treatment.calls)
        await at_work.until(lambda: at_work.reader.holds[-1])
        assert len(at_work.reader.coming) == 1
        at_work.treatment.end()
        await at_work.until(lambda: not at_work.reader.coming)
        assert not at_work.reader.holds[-1]


async def test_lag_counts_what_is_unread_and_in_hand_and_is_as_old_as_the_oldest() -> None:
    async with running() as at_work:
        at_work.reader.ends, at_work.reader.positions = {A: 9}, {A: 2}
        at_work.reader.coming.append({A: records(0, 2, at_ms=1_000)})
        await at_work.until(lambda: at_work.progress.lag_records == 9)
        lag_s = at_work.progress.lag_s
        assert lag_s is not None
        assert lag_s > 1_000_000
        assert at_work.progress.last_success_s is None
        await at_work.until(lambda: at_work.treatment.calls)
        at_work.treatment.end()
        await at_work.until(lambda: at_work.progress.lag_records == 7)
        at_work.reader.positions = {A: 9}  # between them were markers of transactions
        await at_work.until(lambda: at_work.progress.lag_records == 0)
        assert at_work.progress.lag_s == 0.0
        assert at_work.progress.last_success_s is not None
        await at_work.until(lambda: at_work.reader.committed == {A: 9})
