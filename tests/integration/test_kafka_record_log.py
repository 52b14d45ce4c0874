"""What is particular to the record log on Kafka: the stored form, several instances, incarnations, memory, threads."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.record_log import KafkaRecordLog
from broker.errors import StorageUnavailable
from broker.model.partition import partition_for
from broker.model.record import Appended, IdReused
from broker.model.registry import Topic
from tests.contract.kafka_backend import fingerprint
from tests.contract.samples import START_MS, appended, key_for, read_all, record, topic

pytestmark = pytest.mark.kafka

NAME = "crash-reports"
CREATE_TIME = 0
"""Kafka's timestamp type of a time that the producer gave."""


@pytest.fixture
def connection(kafka_bootstrap: str) -> KafkaConnection:
    return KafkaConnection(bootstrap=(kafka_bootstrap,), prefix=f"i{uuid.uuid4().hex[:10]}", replication=1)


@asynccontextmanager
async def opened(
    connection: KafkaConnection, of: Topic, *, ring_bytes: int = 1 << 26, index_records: int = 1_000_000
) -> AsyncIterator[KafkaRecordLog]:
    log = await KafkaRecordLog.open(
        connection, fingerprint=fingerprint, ring_bytes=ring_bytes, index_records=index_records
    )
    try:
        await log.open_topic(of)
        yield log
    finally:
        await log.close()


async def delete_topic(connection: KafkaConnection) -> None:
    admin = ClusterAdmin(connection)
    await admin.call(lambda client: client.delete_topics([connection.topic("records", NAME)]))
    await admin.close()


async def test_another_client_library_reads_the_cloudevents_structured_form(
    connection: KafkaConnection,
) -> None:
    async with opened(connection, topic()) as log:
        batch = [record(n, key=f"key {n}") for n in range(20)]
        places = appended(await log.append(NAME, batch))
    consumer = KafkaConsumer(
        bootstrap_servers=connection.bootstrap[0], group_id=None, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(connection.topic("records", NAME), n) for n in range(3)])
    found = {}
    while len(found) < 20:
        polled = consumer.poll(20_000)
        assert polled, "nothing came"
        found.update({(each.partition, each.offset): each for records in polled.values() for each in records})
    consumer.close()
    for new, place in zip(batch, places, strict=True):
        message = found[place.partition, place.offset]
        assert message.value == new.body
        assert message.key == new.partition_key
        assert list(message.headers) == [("content-type", b"application/cloudevents+protobuf")]
        assert (message.timestamp_type, message.timestamp) == (CREATE_TIME, new.recorded_ms)
        assert message.partition == partition_for(new.partition_key, 3)


async def test_what_another_instance_stored_is_recognised(connection: KafkaConnection) -> None:
    async with (
        opened(connection, topic(partitions=1)) as one,
        opened(connection, topic(partitions=1)) as other,
    ):
        await one.append(NAME, [record(n) for n in range(10)])
        chunk = await other.read(NAME, (9,), max_records=1, max_bytes=100, wait_s=10)
        assert [found.body for found in chunk.records] == [b"r/9"]
        results = await other.append(NAME, [record(3), record(4, body=b"changed"), record(10)])
        assert list(results) == [Appended(0, 3, duplicate=True), IdReused(), Appended(0, 10)]


async def test_instances_that_write_at_once_read_their_own_and_each_others_records(
    connection: KafkaConnection,
) -> None:
    async with opened(connection, topic()) as one, opened(connection, topic()) as other:

        async def write(log: KafkaRecordLog, series: str) -> None:
            for number in range(0, 200, 5):
                places = appended(
                    await log.append(NAME, [record(n, of=series) for n in range(number, number + 5)])
                )
                at = list(await log.end_positions(NAME))
                at[places[-1].partition] = places[-1].offset
                chunk = await log.read(
                    NAME,
                    tuple(at),
                    max_records=100,
                    max_bytes=1 << 20,
                    wait_s=0,
                )
                assert f"{series}/{number + 4}".encode() in {found.body for found in chunk.records}

        await asyncio.gather(write(one, "one"), write(other, "other"))
        expected = {f"{series}/{n}".encode() for series in ("one", "other") for n in range(200)}
        for log in (one, other):
            found = await read_all(log, NAME)
            assert len(found) == 400
            assert {stored.body for stored in found} == expected


async def test_a_topic_made_anew_has_another_incarnation(connection: KafkaConnection) -> None:
    async with opened(connection, topic()) as log:
        first = await log.open_topic(topic())
        await log.append(NAME, [record(n) for n in range(5)])
        await delete_topic(connection)
        async with asyncio.timeout(30):
            while True:
                try:
                    again = await log.open_topic(topic())
                    break
                except StorageUnavailable:
                    await asyncio.sleep(0.1)
        assert (again.name, again.partitions) == (first.name, first.partitions)
        assert again.incarnation != first.incarnation
        assert await log.end_positions(NAME) == (0, 0, 0)
        places = appended(await log.append(NAME, [record(1)]))
        assert not places[0].duplicate
        assert [found.body for found in await read_all(log, NAME)] == [b"r/1"]


async def test_a_topic_made_anew_by_another_instance_is_refused_until_opened_again(
    connection: KafkaConnection,
) -> None:
    async with opened(connection, topic()) as log:
        await log.append(NAME, [record(n) for n in range(5)])
        await delete_topic(connection)
        async with opened(connection, topic()):
            await log.check(NAME)
            for call in (log.append(NAME, [record(7)]), log.end_positions(NAME)):
                with pytest.raises(StorageUnavailable, match="open it again"):
                    await call
            await log.open_topic(topic())
            assert appended(await log.append(NAME, [record(1)]))[0] == Appended(
                partition_for(record(1).partition_key, 3), 0
            )


async def test_a_tail_that_fell_out_of_the_log_goes_on_where_it_begins(connection: KafkaConnection) -> None:
    async with (
        opened(connection, topic(partitions=1)) as log,
        opened(connection, topic(partitions=1)) as other,
    ):
        name = connection.topic("records", NAME)
        await log.append(NAME, [record(n) for n in range(10)])
        await log._admin.call(lambda client: client.delete_records({TopicPartition(name, 0): 10}))
        log._follower.follow({(name, 0): 3})
        await other.append(NAME, [record(10)])
        chunk = await log.read(NAME, (10,), max_records=5, max_bytes=100, wait_s=20)
        assert [(found.offset, found.body) for found in chunk.records] == [(10, b"r/10")]
        # Where the log begins is learned beside what is read.
        async with asyncio.timeout(20):
            while log._topics[NAME].log_starts != (10,):  # noqa: ASYNC110 - another thread brings it about
                await asyncio.sleep(0.01)


async def test_reads_before_the_memory_come_from_kafka_whole_and_in_order(
    connection: KafkaConnection,
) -> None:
    async with opened(connection, topic(), ring_bytes=300_000) as log:
        for start in range(0, 3_000, 500):
            await log.append(
                NAME, [record(n, body=b"%06d" % n + bytes(500)) for n in range(start, start + 500)]
            )
        assert sum(ring.size for ring in log._topics[NAME].rings) <= 300_000
        found = await read_all(log, NAME)
        assert [len(found), {int(stored.body[:6]) for stored in found}] == [3_000, set(range(3_000))]
        for partition in range(3):
            offsets = [stored.offset for stored in found if stored.partition == partition]
            assert offsets == list(range(len(offsets)))
        readers = await asyncio.gather(*(read_all(log, NAME) for _ in range(7)))
        assert all(sorted(each, key=_place) == sorted(found, key=_place) for each in readers)


def _place(stored: object) -> tuple[int, int]:
    return stored.partition, stored.offset  # type: ignore[attr-defined]


async def test_small_chunks_of_old_records_respect_their_limits(connection: KafkaConnection) -> None:
    async with opened(connection, topic(partitions=2), ring_bytes=0) as log:
        await log.append(
            NAME, [record(n, key=key_for(n % 2, 2), body=b"%02d" % n + bytes(98)) for n in range(40)]
        )
        at, found = (0, 0), []
        while len(found) < 40:
            chunk = await log.read(NAME, at, max_records=7, max_bytes=350, wait_s=0)
            assert 1 <= len(chunk.records) <= 3
            at = chunk.next_positions
            found.extend(int(stored.body[:2]) for stored in chunk.records)
        assert at == (20, 20)
        assert sorted(found) == list(range(40))


async def test_the_index_is_a_window_of_the_newest_records(connection: KafkaConnection) -> None:
    async with opened(connection, topic(partitions=1)) as log:
        await log.append(NAME, [record(n) for n in range(100)])
    async with opened(connection, topic(partitions=1), index_records=10) as log:
        results = appended(await log.append(NAME, [record(90), record(99), record(5)]))
        assert [place.duplicate for place in results] == [True, True, False]
        assert len(await read_all(log, NAME)) == 101


async def test_retention_follows_the_rulebook(connection: KafkaConnection) -> None:
    name = connection.topic("records", NAME)
    admin = ClusterAdmin(connection)

    async def retention_ms() -> str:
        settings = await admin.call(lambda client: client.describe_configs([ConfigResource("TOPIC", name)]))
        value: str = settings["topic"][name]["retention.ms"]["value"]
        return value

    for retention_s, expected in ((60, "60000"), (3600, "3600000"), (None, "-1")):
        async with opened(connection, topic(retention_s=retention_s)), asyncio.timeout(60):
            # a broker learns what the controller has acknowledged a moment later
            while await retention_ms() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await admin.close()


async def test_a_record_that_nobody_can_fingerprint_is_served_and_not_indexed(
    connection: KafkaConnection,
) -> None:
    def refuse(body: bytes) -> tuple[bytes, bytes]:
        raise ValueError(body)

    log = await KafkaRecordLog.open(connection, fingerprint=refuse)
    await log.open_topic(topic(partitions=1))
    producer = connection.producer()
    producer.send(
        connection.topic("records", NAME), value=b"foreign", key=b"k", partition=0, timestamp_ms=START_MS
    )
    producer.close()
    chunk = await log.read(NAME, (0,), max_records=5, max_bytes=100, wait_s=10)
    assert [found.body for found in chunk.records] == [b"foreign"]
    assert not appended(await log.append(NAME, [record(1, body=b"foreign")]))[0].duplicate
    await log.close()


async def test_closing_leaves_no_threads_and_refuses_further_calls(connection: KafkaConnection) -> None:
    before = set(threading.enumerate())
    async with opened(connection, topic(), ring_bytes=0) as log:
        await log.append(NAME, [record(n) for n in range(10)])
        await read_all(log, NAME)
        assert set(threading.enumerate()) - before
        waiting = asyncio.ensure_future(
            log.read(NAME, await log.end_positions(NAME), max_records=1, max_bytes=1, wait_s=60)
        )
        await asyncio.sleep(0)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
    with pytest.raises(StorageUnavailable):
        await waiting
    with pytest.raises(StorageUnavailable):
        await log.append(NAME, [record(1)])


async def test_more_readers_of_old_records_than_consumers_all_get_theirs(connection: KafkaConnection) -> None:
    """Also when some go away in the middle."""
    async with opened(connection, topic(), ring_bytes=0) as log:
        await log.append(NAME, [record(n) for n in range(300)])
        quitting = [asyncio.ensure_future(read_all(log, NAME)) for _ in range(6)]
        staying = [asyncio.ensure_future(read_all(log, NAME)) for _ in range(6)]
        await asyncio.sleep(0)
        for reader in quitting[:3]:
            reader.cancel()
        await log.read(NAME, (0, 0, 0), max_records=1, max_bytes=100, wait_s=0)
        for reader in quitting[3:]:
            reader.cancel()
        for found in await asyncio.gather(*staying):
            assert {stored.body for stored in found} == {f"r/{n}".encode() for n in range(300)}
        outcomes = await asyncio.gather(*quitting, return_exceptions=True)
        assert all(isinstance(outcome, (list, asyncio.CancelledError)) for outcome in outcomes)
        assert len(log._catch_up._readers) <= 4
