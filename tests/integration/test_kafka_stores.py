"""Subscriptions, rulebooks and the ledger on Kafka, as several instances share them."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Sequence

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.flight import SendFailed
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
from broker.adapters.kafka.outbox import Message
from broker.adapters.kafka.rulebook_store import CHUNK_BYTES, KafkaRulebookStore, encode_revision
from broker.adapters.kafka.span import read_span
from broker.adapters.kafka.subscription_store import KafkaSubscriptionStore
from broker.core.ledger.leaf import encode
from broker.core.ledger.writer import LedgerWriter
from broker.core.merkle.tree import CompactTree
from broker.errors import EpochConflict, LedgerFenced, StorageUnavailable
from broker.model.ledger import EncodedEntry, LedgerEntry, ReadPoint
from broker.model.rulebook import Revision, revision_id
from tests.contract.samples import START_MS, subscription
from tests.fakes.ledger_log import open_writer, rebuilt_of

pytestmark = pytest.mark.kafka

WEEK_MS = 7 * 24 * 3600 * 1000


@pytest.fixture
def connection(kafka_bootstrap: str) -> KafkaConnection:
    return KafkaConnection(bootstrap=(kafka_bootstrap,), prefix=f"j{uuid.uuid4().hex[:10]}", replication=1)


async def test_a_claim_by_another_instance_is_seen_and_fences(connection: KafkaConnection) -> None:
    one, other = await KafkaSubscriptionStore.open(connection), await KafkaSubscriptionStore.open(connection)
    held = await one.claim((await one.create(subscription())).key, START_MS)
    assert held is not None
    async with asyncio.timeout(10):
        while (taken := await other.claim(held.key, START_MS)) is None:  # noqa: ASYNC110 - until its tail is here
            await asyncio.sleep(0.01)
        while one.present_epoch(held.key) != taken.epoch:  # noqa: ASYNC110 - until its tail is here
            await asyncio.sleep(0.01)
    assert taken.epoch == held.epoch + 1
    with pytest.raises(EpochConflict):
        await one.commit(held.key, held.epoch, (9, 9), START_MS)
    await other.commit(held.key, taken.epoch, (3, 4), START_MS)
    found = await other.get(held.key)
    assert found is not None
    assert found.positions == (3, 4)
    await one.close()
    await other.close()


async def test_instances_that_compete_never_share_an_epoch(connection: KafkaConnection) -> None:
    stores = [await KafkaSubscriptionStore.open(connection) for _ in range(3)]
    created = await asyncio.gather(
        *(store.create(subscription(positions=(n, n))) for n, store in enumerate(stores))
    )
    assert len(set(created)) == 1
    key = created[0].key

    async def claim(store: KafkaSubscriptionStore) -> list[int]:
        return [claimed.epoch for _ in range(10) if (claimed := await store.claim(key, START_MS)) is not None]

    epochs = [epoch for own in await asyncio.gather(*(claim(store) for store in stores)) for epoch in own]
    assert sorted(epochs) == list(range(1, 31))
    for store in stores:
        await store.close()
    late = await KafkaSubscriptionStore.open(connection)
    assert late.present_epoch(key) == 30
    await late.close()


async def test_names_change_weekly_and_their_old_records_are_deleted(connection: KafkaConnection) -> None:
    store = await KafkaSubscriptionStore.open(connection)
    held = await store.create(subscription(positions=(0, 0)))
    for week in range(1, 9):
        await store.commit(held.key, 0, (week, 0), START_MS + week * 2 * WEEK_MS)
    await store.close()
    names = await _proposers(connection)
    assert len(names) == 9
    store = await KafkaSubscriptionStore.open(connection)
    await store.commit(held.key, 0, (99, 0), START_MS + 16 * WEEK_MS)
    await store.close()
    left = await _proposers(connection)
    assert len(left) < 9
    store = await KafkaSubscriptionStore.open(connection)
    found = await store.get(held.key)
    assert found is not None
    assert found.positions == (99, 0)
    await store.close()


async def _proposers(connection: KafkaConnection) -> set[bytes]:
    """Keys whose newest record is no deletion: what compaction will leave."""
    admin = ClusterAdmin(connection)
    name = connection.topic("subscriptions")
    (end,) = await admin.offsets(name, 1, OffsetSpec.LATEST)
    await admin.close()
    newest = {entry.key: entry.value async for entry in read_span(connection, name, 0, end)}
    return {key for key, value in newest.items() if value is not None}


def large_revision(size: int) -> Revision:
    files = {
        "data/large.yaml": bytes(range(256)) * (size // 256),
        "manifest.yaml": b"time_dependent: false\n",
    }
    return Revision(revision_id(files), files, False)


async def test_a_large_rulebook_is_chunked_and_shared(connection: KafkaConnection) -> None:
    revision = large_revision(5 * CHUNK_BYTES)
    one, other = await KafkaRulebookStore.open(connection), await KafkaRulebookStore.open(connection)
    assert len(encode_revision(revision)) > 5
    await asyncio.gather(one.put(revision), other.put(revision))
    for store in (one, other):
        assert await store.get(revision.id) == revision
        assert list(await store.list()) == [revision.id]
        await store.close()


@pytest.mark.parametrize("missing", [0, 2, -1])
async def test_an_incomplete_rulebook_is_not_there_and_can_be_completed(
    connection: KafkaConnection, missing: int
) -> None:
    await (await KafkaRulebookStore.open(connection)).close()
    revision = large_revision(2 * CHUNK_BYTES)
    messages = list(encode_revision(revision))
    del messages[missing]
    producer = connection.producer()
    for message in messages:
        producer.send(connection.topic("rulebooks"), key=message.key, value=message.value, partition=0)
    producer.close()
    store = await KafkaRulebookStore.open(connection)
    assert await store.get(revision.id) is None
    assert list(await store.list()) == []
    await store.put(revision)
    assert await store.get(revision.id) == revision
    await store.close()


async def test_instances_that_start_at_once_each_get_a_partition(connection: KafkaConnection) -> None:
    names = [f"broker-{n}" for n in range(4)]
    logs = [await KafkaLedgerLog.open(connection, name, partitions=4) for name in names]
    assert await asyncio.gather(*(log.claim() for log in logs)) == [1] * 4
    writers = [LedgerWriter(log, name, 1, CompactTree()) for log, name in zip(logs, names, strict=True)]
    entries = {
        name: [LedgerEntry("publish", START_MS + n, {"call": name}) for n in range(5)] for name in names
    }
    await asyncio.gather(*(writer.append(entries[writer.instance]) for writer in writers))
    late = await KafkaLedgerLog.open(connection, "late", partitions=4)
    with pytest.raises(
        StorageUnavailable, match="no unused partition for the instance 'late'; add partitions"
    ):
        await late.claim()
    for writer in writers:
        # Claims of those who lost a race for the partition lie in the way of nobody.
        (place,) = await writer.append([LedgerEntry("publish", START_MS, {"call": "again"})])
        assert place.index == 5
        found = [stored.entry.body async for stored in writer.read()]
        assert found == [{"call": writer.instance}] * 5 + [{"call": "again"}]
    assert list(await late.instances()) == names
    for log in (*logs, late):
        await log.close()


async def test_an_instance_keeps_its_partition_while_others_come_and_go(connection: KafkaConnection) -> None:
    for name, epoch in (("a", 1), ("b", 1), ("a", 3), ("b", 3), ("a", 5)):
        log = await KafkaLedgerLog.open(connection, name, partitions=2)
        writer = await open_writer(log, name)
        (place,) = await writer.append([LedgerEntry("publish", START_MS, {"call": name})])
        assert place.epoch == epoch
        await writer.close()
    reader = await KafkaLedgerReader.open(connection)
    assert list(await reader.instances()) == ["a", "b"]
    sizes = [(await rebuilt_of(reader, name)).tree.size for name in ("a", "b")]
    assert sizes == [3, 2]
    await reader.close()


async def test_a_ledger_of_an_older_form_is_left_alone(connection: KafkaConnection) -> None:
    admin = ClusterAdmin(connection)
    await admin.ensure_topic(connection.topic("ledger"), 1, {})
    await admin.close()
    producer = connection.producer()
    producer.send(connection.topic("ledger"), value=b'{"body":{},"kind":"publish","time_ms":1}').get(10)
    producer.close()
    log = await KafkaLedgerLog.open(connection)
    with pytest.raises(StorageUnavailable, match="no unused partition"):
        await log.claim()
    await log.close()


async def test_retention_is_the_topics_and_never_that_of_checkpoints(connection: KafkaConnection) -> None:
    for retention_ms, expected in ((86_400_000, "86400000"), (None, "-1")):
        log = await KafkaLedgerLog.open(connection, retention_ms=retention_ms)
        for topic, value in (("ledger", expected), ("ledger-checkpoints", "-1")):
            assert await _retention(log, connection.topic(topic)) == value
        await log.close()


async def test_an_idle_instance_keeps_its_partition_past_its_retention(connection: KafkaConnection) -> None:
    day_ms = 86_400_000
    log = await KafkaLedgerLog.open(connection, partitions=1, retention_ms=day_ms)
    writer = await open_writer(log)
    await writer.append([LedgerEntry("publish", START_MS, {"call": 1})])
    await log.expire(START_MS + day_ms // 3 - day_ms)
    assert await _end(log) == 2
    for _ in range(2):  # once for so long
        await log.expire(START_MS + day_ms - day_ms)
    assert await _end(log) == 3
    await log._admin.call(lambda client: client.delete_records({TopicPartition(log._topic, 0): 2}))
    assert list(await log.instances()) == ["broker"]
    assert [page.entries async for page in log.read("broker", ReadPoint())] == [()]
    # The claim in front of the next entry is this writer's own.
    assert [
        place.index for place in await writer.append([LedgerEntry("publish", START_MS, {"call": 2})])
    ] == [1]
    other = await KafkaLedgerLog.open(connection, "other")
    with pytest.raises(StorageUnavailable, match="no unused partition"):
        await other.claim()
    await other.close()
    await writer.close()


async def _end(log: KafkaLedgerLog) -> int:
    (end,) = await log._admin.offsets(log._topic, 1, OffsetSpec.LATEST)
    return end


async def _retention(log: KafkaLedgerLog, topic: str) -> str:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = await log._admin.call(lambda client: client.describe_configs(asked, config_filter="all"))
    return str(answer["topic"][topic]["retention.ms"]["value"])


async def test_a_reader_makes_no_topic(connection: KafkaConnection) -> None:
    with pytest.raises(StorageUnavailable, match=r"holds no topic '.*ledger'"):
        await KafkaLedgerReader.open(connection)
    admin = ClusterAdmin(connection)
    assert await admin.find_topic(connection.topic("ledger")) is None
    await admin.close()


async def test_a_place_that_kafka_no_longer_tells_is_found_among_void_entries(
    connection: KafkaConnection,
) -> None:
    older, newer = await KafkaLedgerLog.open(connection), await KafkaLedgerLog.open(connection)
    await older.claim()
    epoch = await newer.claim()
    with pytest.raises(LedgerFenced):
        await older.append([encoded(1, 0)])
    landing(newer, [-1, -1])
    await newer.append([encoded(epoch, 0), encoded(epoch, 1)])
    await newer.append([encoded(epoch, 2)])
    found = [each async for page in newer.read("broker", ReadPoint()) for each in page.entries]
    assert found == [encoded(epoch, n) for n in range(3)]
    await older.close()
    await newer.close()


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (SendFailed("scripted", stored=False), StorageUnavailable),
        (SendFailed("scripted", stored=None), LedgerFenced),
    ],
)
async def test_what_may_be_stored_without_being_confirmed_ends_the_writer(
    connection: KafkaConnection, outcome: SendFailed, error: type[StorageUnavailable]
) -> None:
    log = await KafkaLedgerLog.open(connection)
    writer = await open_writer(log)
    landing(log, outcome)
    with pytest.raises(StorageUnavailable) as refused:
        await writer.append([LedgerEntry("publish", START_MS, {"call": 1})])
    assert type(refused.value) is error
    assert writer.fenced.done() is (error is LedgerFenced)
    await writer.close()


async def test_a_topic_that_is_made_anew_under_a_writer_ends_it(connection: KafkaConnection) -> None:
    log = await KafkaLedgerLog.open(connection, partitions=1)
    writer = await open_writer(log)
    await writer.append([LedgerEntry("publish", START_MS + n, {"call": n}) for n in range(5)])
    landing(log, [2])
    with pytest.raises(LedgerFenced, match="has lost entries"):
        await writer.append([LedgerEntry("publish", START_MS, {"call": 5})])
    await writer.close()


def landing(log: KafkaLedgerLog, outcome: list[int] | SendFailed) -> None:
    """The next flight is sent as any other, and this is said of it."""
    send = log._outbox.enqueue

    def enqueue(topic: str, partition: int, messages: Sequence[Message]) -> asyncio.Future[list[int]]:
        log._outbox.enqueue = send  # type: ignore[method-assign]
        told: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def landed(_: asyncio.Future[list[int]]) -> None:
            if isinstance(outcome, SendFailed):
                told.set_exception(outcome)
            else:
                told.set_result(outcome)

        send(topic, partition, messages).add_done_callback(landed)
        return told

    log._outbox.enqueue = enqueue  # type: ignore[method-assign]


def encoded(epoch: int, index: int) -> EncodedEntry:
    return encode(LedgerEntry("publish", START_MS, {"call": index}), "broker", epoch, index, b"s" * 32)


async def test_closing_leaves_no_threads(connection: KafkaConnection) -> None:
    before = set(threading.enumerate())
    for opening in (KafkaLedgerLog.open, KafkaSubscriptionStore.open, KafkaRulebookStore.open):
        await (await opening(connection)).close()
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
