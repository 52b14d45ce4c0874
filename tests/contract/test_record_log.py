"""The contract of the record log, which every backend keeps."""

from __future__ import annotations

import asyncio

import pytest

from broker.model.partition import partition_for
from broker.model.record import Appended, IdReused
from broker.ports.record_log import RecordLog
from tests.contract.backend import Backend
from tests.contract.samples import START_MS, appended, key_for, read_all, record, topic

NAME = "crash-reports"


class TestTopics:
    async def test_opening_twice_gives_the_same_topic(self, log: RecordLog) -> None:
        first = await log.open_topic(topic())
        assert (first.name, first.partitions, len(first.incarnation)) == (NAME, 3, 16)
        assert await log.open_topic(topic()) == first

    async def test_incarnations_differ_and_survive_reopening(self, backend: Backend) -> None:
        log = await backend.open_record_log()
        first, other = await log.open_topic(topic()), await log.open_topic(topic("other"))
        await log.close()
        log = await backend.open_record_log()
        assert await log.open_topic(topic()) == first
        assert first.incarnation != other.incarnation
        await log.close()

    @pytest.mark.parametrize("partitions", [1, 2, 4])
    async def test_partition_counts_are_immutable(self, log: RecordLog, partitions: int) -> None:
        await log.open_topic(topic(partitions=3))
        with pytest.raises(ValueError, match="3 partitions"):
            await log.open_topic(topic(partitions=partitions))

    async def test_an_empty_topic_starts_and_ends_at_zero(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        assert await log.start_positions(NAME) == await log.end_positions(NAME) == (0, 0, 0)

    async def test_topics_do_not_mix(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        await log.open_topic(topic("other"))
        await log.append(NAME, [record(1)])
        assert isinstance((await log.append("other", [record(1, body=b"another")]))[0], Appended)
        assert [found.body for found in await read_all(log, NAME)] == [b"r/1"]
        assert [found.body for found in await read_all(log, "other")] == [b"another"]


class TestAppend:
    async def test_what_was_appended_is_read_back_where_it_was_put(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        batch = [record(n) for n in range(50)]
        places = appended(await log.append(NAME, batch))
        assert {place.duplicate for place in places} == {False}
        found = {(r.partition, r.offset): r for r in await read_all(log, NAME)}
        assert len(found) == 50
        for new, place in zip(batch, places, strict=True):
            stored = found[place.partition, place.offset]
            assert (stored.body, stored.recorded_ms) == (new.body, new.recorded_ms)

    async def test_the_partition_is_the_one_of_kafkas_clients(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=7))
        batch = [record(n, key=f"key {n % 11}") for n in range(40)]
        places = appended(await log.append(NAME, batch))
        assert [p.partition for p in places] == [partition_for(r.partition_key, 7) for r in batch]

    async def test_order_per_key_is_the_order_of_appends(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        for start in range(0, 60, 20):
            await log.append(NAME, [record(n, key=f"key {n % 4}") for n in range(start, start + 20)])
        found = await read_all(log, NAME)
        for key in range(4):
            bodies = [f"r/{n}".encode() for n in range(60) if n % 4 == key]
            assert [r.body for r in found if r.body in set(bodies)] == bodies

    async def test_appending_nothing_returns_nothing(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        assert list(await log.append(NAME, [])) == []
        assert await log.end_positions(NAME) == (0, 0, 0)

    async def test_empty_and_binary_bodies_come_back_unchanged(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        bodies = [b"", bytes(range(256)), b"\x00" * 10]
        await log.append(NAME, [record(n, body=body) for n, body in enumerate(bodies)])
        assert [found.body for found in await read_all(log, NAME)] == bodies

    async def test_concurrent_writers_each_get_their_own_place(self, log: RecordLog) -> None:
        await log.open_topic(topic())

        async def write(writer: int) -> list[Appended]:
            batches = [
                [record(n, of=f"w{writer}", key=f"{writer}") for n in (2 * b, 2 * b + 1)] for b in range(5)
            ]
            return [place for batch in batches for place in appended(await log.append(NAME, batch))]

        written = await asyncio.gather(*(write(writer) for writer in range(12)))
        places = [(place.partition, place.offset) for places in written for place in places]
        assert len(set(places)) == len(places) == 120
        found = {(r.partition, r.offset): r.body for r in await read_all(log, NAME)}
        for writer, own in enumerate(written):
            bodies = [found[place.partition, place.offset] for place in own]
            assert bodies == [f"w{writer}/{n}".encode() for n in range(10)]
            assert [place.offset for place in own] == sorted(place.offset for place in own)

    async def test_a_cancelled_call_leaves_the_log_usable(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        call = asyncio.ensure_future(log.append(NAME, [record(1)]))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        again = appended(await log.append(NAME, [record(1), record(2)]))
        assert [place.offset for place in again] == [0, 1]
        assert [found.body for found in await read_all(log, NAME)] == [b"r/1", b"r/2"]


class TestDuplicates:
    async def test_an_equal_record_gets_its_first_place(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        first = appended(await log.append(NAME, [record(n) for n in range(5)]))
        again = appended(await log.append(NAME, [record(n) for n in range(6)]))
        assert again[:5] == [place._replace(duplicate=True) for place in first]
        assert not again[5].duplicate
        assert len(await read_all(log, NAME)) == 6

    async def test_equality_is_the_digests_alone(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(1)])
        stamped_later = record(1)._replace(body=b"r/1 with another stamp", recorded_ms=START_MS + 99)
        assert await log.append(NAME, [stamped_later]) == [Appended(0, 0, duplicate=True)]
        assert [found.body for found in await read_all(log, NAME)] == [b"r/1"]

    async def test_another_record_with_the_identity_is_refused(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(1)])
        results = await log.append(NAME, [record(0), record(1, body=b"changed"), record(2)])
        assert list(results) == [Appended(0, 1), IdReused(), Appended(0, 2)]
        assert [found.body for found in await read_all(log, NAME)] == [b"r/1", b"r/0", b"r/2"]

    async def test_even_when_its_key_leads_to_another_partition(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        (first,) = appended(await log.append(NAME, [record(1, key=key_for(0, 3))]))
        elsewhere = key_for(1, 3)
        results = await log.append(
            NAME, [record(1, key=elsewhere), record(1, key=elsewhere, body=b"changed")]
        )
        assert list(results) == [first._replace(duplicate=True), IdReused()]

    async def test_within_one_batch(self, log: RecordLog) -> None:
        await log.open_topic(topic(partitions=1))
        results = await log.append(NAME, [record(1), record(1), record(1, body=b"changed"), record(2)])
        assert list(results) == [Appended(0, 0), Appended(0, 0, duplicate=True), IdReused(), Appended(0, 1)]

    async def test_after_reopening(self, backend: Backend) -> None:
        log = await backend.open_record_log()
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(1), record(2)])
        await log.close()
        log = await backend.open_record_log()
        await log.open_topic(topic(partitions=1))
        results = await log.append(NAME, [record(2), record(1, body=b"changed"), record(3)])
        assert list(results) == [Appended(0, 1, duplicate=True), IdReused(), Appended(0, 2)]
        await log.close()

    async def test_of_concurrent_equal_records_one_is_stored(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        results = await asyncio.gather(*(log.append(NAME, [record(1)]) for _ in range(20)))
        places = [place for result in results for place in appended(result)]
        assert len({(place.partition, place.offset) for place in places}) == 1
        assert [place.duplicate for place in places].count(False) == 1
        assert len(await read_all(log, NAME)) == 1

    async def test_of_concurrent_different_records_one_wins(self, log: RecordLog) -> None:
        await log.open_topic(topic())
        bodies = [f"version {n}".encode() for n in range(20)]
        results = await asyncio.gather(*(log.append(NAME, [record(1, body=body)]) for body in bodies))
        winners = [
            body for body, (result,) in zip(bodies, results, strict=True) if isinstance(result, Appended)
        ]
        assert len(winners) == 1
        assert [found.body for found in await read_all(log, NAME)] == winners


async def test_closing_twice_is_harmless(backend: Backend) -> None:
    log = await backend.open_record_log()
    await log.open_topic(topic())
    await log.close()
    await log.close()
