"""The SQLite record log does what a simple model in memory does, whatever is asked of it in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.errors import PositionExpired
from broker.model.partition import partition_for
from broker.model.record import Appended, AppendResult, IdReused, NewRecord, Positions, StoredRecord
from tests.contract.samples import START_MS, key_for, record, topic

PARTITIONS = 3
RETENTION_S = 10
TOPIC = topic(partitions=PARTITIONS, retention_s=RETENTION_S)


@dataclass
class Model:
    """What the port promises, as directly as it can be written down."""

    starts: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    kept: list[list[tuple[StoredRecord, NewRecord]]] = field(
        default_factory=lambda: [[] for _ in range(PARTITIONS)]
    )

    def append(self, records: Sequence[NewRecord]) -> list[AppendResult]:
        return [self._append(new) for new in records]

    def _append(self, new: NewRecord) -> AppendResult:
        for stored, known in (pair for kept in self.kept for pair in kept):
            if known.identity == new.identity:
                return (
                    Appended(stored.partition, stored.offset, True)
                    if known.digest == new.digest
                    else IdReused()
                )
        partition = partition_for(new.partition_key, PARTITIONS)
        offset = self.ends()[partition]
        self.kept[partition].append((StoredRecord(partition, offset, new.recorded_ms, new.body), new))
        return Appended(partition, offset)

    def ends(self) -> Positions:
        return tuple(start + len(kept) for start, kept in zip(self.starts, self.kept, strict=True))

    def positions_at(self, time_ms: int) -> Positions:
        ends = self.ends()
        return tuple(
            next((stored.offset for stored, _ in kept if stored.recorded_ms >= time_ms), ends[partition])
            for partition, kept in enumerate(self.kept)
        )

    def expire(self, now_ms: int) -> None:
        for partition, first in enumerate(self.positions_at(now_ms - RETENTION_S * 1000)):
            self.kept[partition] = self.kept[partition][first - self.starts[partition] :]
            self.starts[partition] = first

    def records(self, partition: int, begin: int, end: int) -> list[StoredRecord]:
        return [stored for stored, _ in self.kept[partition] if begin <= stored.offset < end]


@dataclass(frozen=True)
class Append:
    records: list[NewRecord]


@dataclass(frozen=True)
class Read:
    begin: tuple[int, ...]
    max_records: int
    max_bytes: int


@dataclass(frozen=True)
class At:
    time_s: int


@dataclass(frozen=True)
class Expire:
    time_s: int


@dataclass(frozen=True)
class Reopen:
    pass


Step = Append | Read | At | Expire | Reopen

_seconds = st.integers(0, 30)
_records = st.builds(
    lambda number, key, version, size, second: record(
        number, key=str(key), body=bytes([version]) * size, recorded_ms=START_MS + second * 1000
    ),
    st.integers(0, 20),
    st.integers(0, 5),
    st.integers(0, 1),
    st.sampled_from([0, 1, 7, 300]),
    _seconds,
)
_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Append, st.lists(_records, max_size=8)),
    st.builds(Append, st.lists(_records, max_size=8)),
    st.builds(Read, st.tuples(*[st.integers(0, 6)] * PARTITIONS), st.integers(1, 6), st.integers(1, 400)),
    st.builds(At, _seconds),
    st.builds(Expire, st.integers(0, 45)),
    st.builds(Reopen),
)


@given(st.lists(_steps, max_size=14))
@settings(max_examples=60, deadline=None)
def test_the_log_does_what_the_model_does(steps: list[Step]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(_run(Path(directory), steps))


async def _run(directory: Path, steps: Sequence[Step]) -> None:
    model = Model()
    log = await SqliteRecordLog.open(directory)
    await log.open_topic(TOPIC)
    for step in steps:
        match step:
            case Append(records):
                assert list(await log.append(TOPIC.name, records)) == model.append(records)
            case Read():
                await _check_read(log, model, step)
            case At(time_s):
                time_ms = START_MS + time_s * 1000
                assert await log.positions_at(TOPIC.name, time_ms) == model.positions_at(time_ms)
            case Expire(time_s):
                await log.enforce_retention(START_MS + time_s * 1000)
                model.expire(START_MS + time_s * 1000)
            case Reopen():
                await log.close()
                log = await SqliteRecordLog.open(directory)
                await log.open_topic(TOPIC)
        assert await log.start_positions(TOPIC.name) == tuple(model.starts)
        assert await log.end_positions(TOPIC.name) == model.ends()
    await log.close()


async def _check_read(log: SqliteRecordLog, model: Model, step: Read) -> None:
    async def read() -> tuple[tuple[StoredRecord, ...], Positions]:
        chunk = await log.read(
            TOPIC.name, step.begin, max_records=step.max_records, max_bytes=step.max_bytes, wait_s=0
        )
        return chunk.records, chunk.next_positions

    if any(begin < start for begin, start in zip(step.begin, model.starts, strict=True)):
        with pytest.raises(PositionExpired) as expired:
            await read()
        assert expired.value.earliest == tuple(model.starts)
        return
    records, following = await read()
    for partition in range(PARTITIONS):
        expected = model.records(partition, step.begin[partition], following[partition])
        assert [found for found in records if found.partition == partition] == expected
        assert following[partition] == step.begin[partition] + len(expected)
    there_is_one = any(begin < end for begin, end in zip(step.begin, model.ends(), strict=True))
    assert bool(records) == there_is_one
    assert len(records) <= step.max_records
    assert len(records) <= 1 or sum(len(found.body) for found in records) <= step.max_bytes


@pytest.mark.parametrize(("max_records", "max_bytes"), [(12, 1 << 20), (500, 1_200)])
async def test_a_read_is_shared_evenly_by_the_partitions(
    tmp_path: Path, max_records: int, max_bytes: int
) -> None:
    log = await SqliteRecordLog.open(tmp_path)
    await log.open_topic(TOPIC)
    keys = [key_for(partition, PARTITIONS) for partition in range(PARTITIONS)]
    await log.append(TOPIC.name, [record(n, key=keys[n % PARTITIONS], body=b"x" * 100) for n in range(90)])
    chunk = await log.read(TOPIC.name, (0, 0, 0), max_records=max_records, max_bytes=max_bytes, wait_s=0)
    assert chunk.next_positions == (4, 4, 4)
    await log.close()
