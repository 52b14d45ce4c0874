"""The contract of reading what is still stored, without a place of one's own and without the right to change anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.record_reader import SqliteRecordReader
from broker.errors import StorageUnavailable
from broker.model.record import StoredRecord
from broker.ports.record_log import RecordLog
from broker.ports.stored_records import StoredRecords
from tests.contract.backend import Backend
from tests.contract.samples import START_MS, read_all, record, topic

NAME = "crash-reports"


async def everything(reader: StoredRecords, name: str = NAME) -> list[StoredRecord]:
    return [each for part in [list(part) async for part in reader.read(name)] for each in part]


async def test_all_that_is_stored_is_read_beside_an_open_log(backend: Backend, log: RecordLog) -> None:
    await log.open_topic(topic())
    await log.open_topic(topic("other"))
    for first in range(0, 2_500, 500):
        await log.append(NAME, [record(n, recorded_ms=START_MS + n) for n in range(first, first + 500)])
    await log.append("other", [record(1)])
    reader = await backend.open_record_reader()
    try:
        found = await everything(reader)
        expected = await read_all(log, NAME)
        assert sorted(found, key=_place) == sorted(expected, key=_place) and len(found) == 2_500
        by_partition = [[r.offset for r in found if r.partition == number] for number in range(3)]
        assert all(offsets == sorted(offsets) for offsets in by_partition)
        assert await everything(reader, "no-such-topic") == []
    finally:
        await reader.close()


async def test_what_expired_is_not_read(backend: Backend, log: RecordLog) -> None:
    kept_s = topic(retention_s=60)
    await log.open_topic(kept_s)
    await log.append(NAME, [record(n, recorded_ms=START_MS) for n in range(20)])
    await log.append(NAME, [record(n, recorded_ms=START_MS + 90_000) for n in range(20, 40)])
    await backend.expire(log, kept_s, START_MS + 100_000)
    reader = await backend.open_record_reader()
    try:
        left = await everything(reader)
        assert sorted(left, key=_place) == sorted(await read_all(log, NAME), key=_place)
        assert {each.recorded_ms for each in left} == {START_MS + 90_000}
    finally:
        await reader.close()


async def test_a_file_that_is_closed_is_read_and_nothing_is_created(tmp_path: Path) -> None:
    log = await SqliteRecordLog.open(tmp_path)
    await log.open_topic(topic())
    await log.append(NAME, [record(n) for n in range(5)])
    await log.close()
    before = files(tmp_path)
    reader = await SqliteRecordReader.open(tmp_path / "records.db")
    assert len(await everything(reader)) == 5
    assert files(tmp_path) == before


async def test_a_file_that_is_not_there_or_not_of_this_kind_is_named(tmp_path: Path) -> None:
    for content in (None, b"no database"):
        if content is not None:
            (tmp_path / "records.db").write_bytes(content)
        with pytest.raises(StorageUnavailable, match=r"records\.db"):
            await SqliteRecordReader.open(tmp_path / "records.db")


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _place(each: StoredRecord) -> tuple[int, int]:
    return each.partition, each.offset
