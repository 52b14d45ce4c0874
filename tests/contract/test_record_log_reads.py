"""The contract of the record log, second part: reads, positions and retention."""

from __future__ import annotations

import asyncio

import pytest

from broker.errors import PositionExpired
from broker.model.record import Positions, StoredRecord
from broker.ports.record_log import RecordLog
from tests.contract.backend import Backend
from tests.contract.samples import START_MS, appended, key_for, read_all, record, topic

NAME = "crash-reports"


class TestRead:
    async def test_from_a_position_on(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(n) for n in range(10)])
        chunk = await log.read(NAME, (4,), max_records=3, max_bytes=1 << 20, wait_s=10)
        assert [(r.partition, r.offset, r.body) for r in chunk.records] == [
            (0, n, f"r/{n}".encode()) for n in (4, 5, 6)
        ]
        assert chunk.next_positions == (7,)

    async def test_next_positions_follow_what_was_returned(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        await log.append(NAME, [record(n) for n in range(40)])
        at: Positions = (0, 0, 0)
        found: list[StoredRecord] = []
        while len(found) < 40:
            chunk = await log.read(NAME, at, max_records=7, max_bytes=1 << 20, wait_s=10)
            assert 1 <= len(chunk.records) <= 7
            for partition in range(3):
                offsets = [r.offset for r in chunk.records if r.partition == partition]
                assert offsets == list(range(at[partition], chunk.next_positions[partition]))
            found.extend(chunk.records)
            at = chunk.next_positions
        assert at == await log.end_positions(NAME)
        assert {r.body for r in found} == {f"r/{n}".encode() for n in range(40)}

    async def test_max_bytes_bounds_the_bodies(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=2))
        await log.append(NAME, [record(n, body=bytes([n]) * 100) for n in range(20)])
        at: Positions = (0, 0)
        end, reads = await log.end_positions(NAME), 0
        while at != end:
            chunk = await log.read(NAME, at, max_records=500, max_bytes=350, wait_s=10)
            assert 1 <= len(chunk.records) <= 3
            at, reads = chunk.next_positions, reads + 1
        assert reads <= 12

    async def test_a_record_over_max_bytes_comes_alone(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(1, body=b"x" * 5_000), record(2)])
        chunk = await log.read(NAME, (0,), max_records=500, max_bytes=100, wait_s=10)
        assert [len(r.body) for r in chunk.records] == [5_000]
        assert chunk.next_positions == (1,)

    async def test_no_partition_starves(self, log: RecordLog) -> None:
        """A reader of small chunks reaches a partition's one record although another never runs dry."""
        await log.open_topic(topic(partitions=2))
        await log.append(NAME, [record(n, key=key_for(0, 2), body=b"a" * 25) for n in range(200)])
        await log.append(NAME, [record(0, key=key_for(1, 2), body=b"b" * 60, of="rare")])
        at: Positions = (0, 0)
        reads = 0
        while at[1] == 0:
            chunk = await log.read(NAME, at, max_records=10, max_bytes=100, wait_s=10)
            at, reads = chunk.next_positions, reads + 1
        assert at[0] < 150, f"the rare record came after {reads} reads"

    async def test_an_empty_read_without_waiting_returns_at_once(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        chunk = await log.read(NAME, (0, 0, 0), max_records=10, max_bytes=100, wait_s=0)
        assert (chunk.records, chunk.next_positions) == ((), (0, 0, 0))

    async def test_an_empty_read_waits_for_its_time(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        chunk = await log.read(NAME, (0, 0, 0), max_records=10, max_bytes=100, wait_s=0.2)
        assert (chunk.records, chunk.next_positions) == ((), (0, 0, 0))
        assert 0.19 <= loop.time() - begun < 5

    async def test_an_append_wakes_all_who_wait(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        reads = [
            asyncio.ensure_future(log.read(NAME, (0, 0, 0), max_records=10, max_bytes=100, wait_s=60))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        await log.append(NAME, [record(1)])
        for chunk in await asyncio.wait_for(asyncio.gather(*reads), timeout=30):
            assert [found.body for found in chunk.records] == [b"r/1"]

    async def test_a_waiting_read_can_be_cancelled(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        waiting = asyncio.ensure_future(log.read(NAME, (0, 0, 0), max_records=1, max_bytes=100, wait_s=60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await log.append(NAME, [record(1)])
        assert len(await read_all(log, NAME)) == 1

    async def test_what_an_append_acknowledged_is_readable_at_once(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        for number in range(20):
            (place,) = appended(await log.append(NAME, [record(number)]))
            assert await log.end_positions(NAME) == (place.offset + 1,)
            chunk = await log.read(NAME, (place.offset,), max_records=1, max_bytes=100, wait_s=10)
            assert [found.body for found in chunk.records] == [f"r/{number}".encode()]


class TestPositions:
    async def test_positions_survive_reopening(self, backend: Backend) -> None:
        log = await backend.open_record_log()
        await log.open_topic(topic())
        places = appended(await log.append(NAME, [record(n) for n in range(30)]))
        end = await log.end_positions(NAME)
        assert end == tuple(sum(place.partition == p for place in places) for p in range(3))
        await log.close()
        log = await backend.open_record_log()
        await log.open_topic(topic())
        assert await log.start_positions(NAME) == (0, 0, 0)
        assert await log.end_positions(NAME) == end
        assert {r.body for r in await read_all(log, NAME)} == {f"r/{n}".encode() for n in range(30)}
        (place,) = appended(await log.append(NAME, [record(30)]))
        assert place.offset == end[place.partition]
        await log.close()

    async def test_positions_at_a_time(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(n, recorded_ms=START_MS + 10 * n) for n in range(10)])
        for time_ms, offset in (
            (0, 0),
            (START_MS, 0),
            (START_MS + 1, 1),
            (START_MS + 50, 5),
            (START_MS + 51, 6),
        ):
            assert await log.positions_at(NAME, time_ms) == (offset,)
        assert await log.positions_at(NAME, START_MS + 91) == (10,)

    async def test_positions_at_where_times_are_not_in_order(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        times = [5, 3, 9, 4, 9, 12, 2, 15]
        await log.append(NAME, [record(n, recorded_ms=START_MS + time) for n, time in enumerate(times)])
        for asked in range(17):
            first = next((n for n, time in enumerate(times) if time >= asked), len(times))
            assert await log.positions_at(NAME, START_MS + asked) == (first,)

    async def test_positions_at_of_each_partition(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=2))
        await log.append(NAME, [record(n, key=key_for(n % 2, 2)) for n in range(10)])
        assert await log.positions_at(NAME, START_MS + 5) == (3, 2)
        await log.open_topic(topic("empty"))
        assert await log.positions_at("empty", START_MS) == (0, 0, 0)


class TestRetention:
    async def test_old_records_are_dropped_and_their_positions_expire(
        self, backend: Backend, log: RecordLog
    ) -> None:
        kept = topic(partitions=1, retention_s=60)
        await log.open_topic(kept)
        await log.append(NAME, [record(n, recorded_ms=START_MS + 1_000 * n) for n in range(10)])
        await backend.expire(log, kept, START_MS + 64_000)
        assert await log.start_positions(NAME) == (4,)
        assert await log.end_positions(NAME) == (10,)
        assert [found.offset for found in await read_all(log, NAME)] == list(range(4, 10))
        for position in (0, 3):
            with pytest.raises(PositionExpired) as expired:
                await log.read(NAME, (position,), max_records=10, max_bytes=100, wait_s=0)
            assert expired.value.earliest == (4,)
        assert await log.positions_at(NAME, 0) == (4,)

    async def test_offsets_go_on_after_everything_was_dropped(self, backend: Backend) -> None:
        kept = topic(partitions=1, retention_s=60)
        log = await backend.open_record_log()
        await log.open_topic(kept)
        await log.append(NAME, [record(n) for n in range(5)])
        await backend.expire(log, kept, START_MS + 120_000)
        assert await log.start_positions(NAME) == await log.end_positions(NAME) == (5,)
        chunk = await log.read(NAME, (5,), max_records=10, max_bytes=100, wait_s=0)
        assert (chunk.records, chunk.next_positions) == ((), (5,))
        await log.close()
        log = await backend.open_record_log()
        await log.open_topic(kept)
        assert await log.start_positions(NAME) == await log.end_positions(NAME) == (5,)
        assert [place.offset for place in appended(await log.append(NAME, [record(9)]))] == [5]
        assert [found.offset for found in await read_all(log, NAME)] == [5]
        await log.close()

    async def test_without_retention_nothing_is_dropped(self, backend: Backend, log: RecordLog) -> None:
        forever = topic(partitions=1, retention_s=None)
        await log.open_topic(forever)
        await log.append(NAME, [record(1)])
        await backend.expire(log, forever, START_MS + 10**12)
        assert await log.start_positions(NAME) == (0,)
        assert len(await read_all(log, NAME)) == 1
