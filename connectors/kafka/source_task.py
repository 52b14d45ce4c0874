"""One task of a Kafka source: reads on while calls to the exchange are under way, and commits what is dealt with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from kafka import TopicPartition

from connectors.kafka.lanes import Call, Lanes, Taken
from connectors.kafka.letting_go import Offsets, Owner
from connectors.kafka.reader import Sight
from connectors.runtime.plugin import TaskContext
from connectors.runtime.progress import Progress

CALLS = 4
CALL_RECORDS = 500
CALL_BYTES = 2 * 1024 * 1024
"""Of a call: what the client sends at once, within the exchange's default limits."""

MOST_RECORDS = 8_000
MOST_BYTES = 32 * 1024 * 1024
POLL_S = 0.2
HOLD_S = 1.0
COMMIT_EVERY_S = 1.0
LOOK_EVERY_S = 5.0
CAUGHT_UP_S = 0.5
LET_GO_S = 20.0
"""How long a partition that others want is held for what is under way; below the cluster's time for a rebalance."""


class Reads(Protocol):
    """What a task needs of a Reader."""

    async def open(self, owner: Owner) -> None: ...

    async def poll(self, timeout_s: float, *, hold: bool) -> Mapping[TopicPartition, Sequence[Taken]]: ...

    async def commit(self, offsets: Offsets) -> bool: ...

    async def look(self) -> Sight | None: ...

    async def close(self) -> None: ...


class Treats(Protocol):
    """Deals with records for good, in order."""

    async def treat(self, taken: Sequence[Taken]) -> None: ...


class SourceTask:
    """One run of a task, for one use."""

    def __init__(self, context: TaskContext, reader: Reads, treatment: Treats) -> None:
        self._gate = context.gate
        self._progress: Progress = context.progress
        self._reader = reader
        self._treatment = treatment
        self._lanes: Lanes[TopicPartition] = Lanes(MOST_RECORDS, MOST_BYTES)
        self._calls: set[asyncio.Task[None]] = set()
        self._releases: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        self._commit_due_s = 0.0
        self._looked_s = -LOOK_EVERY_S
        self._newest_ms: int | None = None

    async def run(self) -> None:
        """Work until the gate says stop. Raises what ended it; everything is closed then."""
        try:
            await self._reader.open(self)
            while not self._gate.stopping:
                await self._turn()
            await self._finish()
        finally:
            await asyncio.shield(self._close())

    # -- what the reader tells ------------------------------------------------------------------------------------

    def let_go(self, partitions: Collection[TopicPartition], done: Callable[[Offsets], None]) -> None:
        """Begin nothing more of these; tell what may be committed once nothing is under way, or after LET_GO_S."""
        self._lanes.close(partitions)
        release = asyncio.create_task(self._release(partitions, done))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """They belong to somebody else now; a call that is still under way with them moves nothing here."""
        self._lanes.drop(partitions)

    async def _release(self, partitions: Collection[TopicPartition], done: Callable[[Offsets], None]) -> None:
        try:
            async with asyncio.timeout(LET_GO_S):
                while self._lanes.busy(partitions) and self._calls and self._failure is None:
                    await self._ended.wait()
        except TimeoutError:
            pass
        finally:
            done(self._lanes.to_commit(partitions))

    # -- the work -------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Take, send on, commit, and look around, as far as each is due."""
        hold = self._gate.paused or self._lanes.full
        if hold:
            await self._wait()
        for partition, taken in (await self._reader.poll(0.0 if hold else POLL_S, hold=hold)).items():
            self._lanes.add(partition, taken)
            self._newest_ms = taken[-1].record.timestamp_ms if taken else self._newest_ms
        self._start_calls()
        self._raise_failure()
        now_s = time.monotonic()
        if now_s >= self._commit_due_s:
            self._commit_due_s = now_s + COMMIT_EVERY_S
            await self._commit()
        # Having caught up is soon told; until then there is no hurry.
        caught_up = self._progress.lag_records != 0 and not self._lanes.records
        if now_s >= self._looked_s + (CAUGHT_UP_S if caught_up else LOOK_EVERY_S):
            await self._look()
            self._looked_s = time.monotonic()

    async def _wait(self) -> None:
        """Until there is room or the gate changes; HOLD_S at most, since a member of the group has to poll."""
        waits = [asyncio.ensure_future(self._gate.changed()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, timeout=HOLD_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _start_calls(self) -> None:
        idle = self._gate.paused or self._gate.stopping or self._failure is not None
        while not idle and len(self._calls) < CALLS:
            call = self._lanes.next_call(CALL_RECORDS, CALL_BYTES)
            if call is None:
                return
            task = asyncio.create_task(self._treatment.treat(call.taken))
            self._calls.add(task)
            task.add_done_callback(partial(self._ended_call, call))

    def _ended_call(self, call: Call[TopicPartition], task: asyncio.Task[None]) -> None:
        """Calls follow one another also while a poll waits for records."""
        self._calls.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._lanes.finished(call)
        self._failure = self._failure or error
        self._ended.set()
        self._ended = asyncio.Event()
        self._start_calls()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _commit(self) -> None:
        offsets = self._lanes.to_commit()
        if offsets and await self._reader.commit(offsets):
            self._lanes.committed(offsets)

    async def _look(self) -> None:
        """See how far behind the task is; its own records in hand count as unread."""
        sight = await self._reader.look()
        if sight is None:
            return
        for partition, position in sight.positions.items():
            self._lanes.passed(partition, position)
        unread = sum(max(0, end - sight.positions.get(each, end)) for each, end in sight.ends.items())
        self._tell_lag(unread + self._lanes.records)

    def _tell_lag(self, records: int) -> None:
        self._progress.lag_records = records
        # What is unread is younger than all that was read.
        oldest_ms = self._lanes.oldest_ms() or self._newest_ms
        if not records:
            self._progress.lag_s = 0.0
            self._progress.idle()
        elif oldest_ms is not None:
            self._progress.lag_s = max(0.0, time.time() - oldest_ms / 1000)

    async def _finish(self) -> None:
        """Let what is under way end, and commit it; what was only read comes again."""
        while self._calls and self._failure is None:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        await self._commit()
        self._raise_failure()

    async def _close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._reader.close()
        await asyncio.gather(*self._releases, return_exceptions=True)
