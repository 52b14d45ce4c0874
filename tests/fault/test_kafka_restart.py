"""Kafka stopped, killed, frozen and started again under load: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from kafka.admin import OffsetSpec

from broker.adapters.kafka import clients
from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.record_log import KafkaRecordLog
from broker.adapters.kafka.subscription_store import KafkaSubscriptionStore
from broker.errors import EpochConflict, LedgerFenced, StorageUnavailable
from broker.model.ledger import LedgerEntry, Place
from broker.model.record import Positions, StoredRecord
from connectors.kafka import connection
from deploy.kafka.node import KafkaNode
from tests.contract.kafka_backend import fingerprint
from tests.contract.samples import START_MS, appended, key_for, read_all, record, subscription, topic
from tests.fakes.ledger_log import OpenedWriter, open_writer
from tests.services.ports import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NAME = "crash-reports"
PREFIX = ""
KEYS = [key_for(partition, 3) for partition in range(3)]


@pytest.fixture(autouse=True)
def own_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is shared by many tests."""
    monkeypatch.setattr(sys.modules[__name__], "PREFIX", f"fault-{uuid.uuid4().hex[:8]}")


def connection_to(node: KafkaNode) -> KafkaConnection:
    return KafkaConnection(bootstrap=(node.bootstrap,), prefix=PREFIX, replication=1)


@asynccontextmanager
async def opened_log(node: KafkaNode, *, append_timeout_s: float = 2.0) -> AsyncIterator[KafkaRecordLog]:
    log = await KafkaRecordLog.open(
        connection_to(node), fingerprint=fingerprint, append_timeout_s=append_timeout_s
    )
    try:
        await log.open_topic(topic())
        yield log
    finally:
        await log.close()


class Writer:
    """Appends its series in order, each batch again until it is acknowledged, and counts what was refused."""

    def __init__(self, log: KafkaRecordLog, series: str) -> None:
        self._log = log
        self.series = series
        self.acknowledged = 0
        self.refused = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            batch = [
                record(n, of=self.series, key=KEYS[n % 3])
                for n in range(self.acknowledged, self.acknowledged + 10)
            ]
            try:
                appended(await self._log.append(NAME, batch))
            except StorageUnavailable:
                self.refused += 1
                # Without this a closed door would be tried thousands of times a second.
                await asyncio.sleep(0.05)
            else:
                self.acknowledged += 10


class Reader:
    """Follows the topic from its start and keeps what it was given."""

    def __init__(self, log: KafkaRecordLog) -> None:
        self._log = log
        self.found: list[StoredRecord] = []
        self.at: Positions = (0, 0, 0)

    async def run(self) -> None:
        while True:
            chunk = await self._log.read(NAME, self.at, max_records=100, max_bytes=1 << 20, wait_s=1)
            self.found.extend(chunk.records)
            self.at = chunk.next_positions


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that other tasks bring about; `what` says in a traceback what did not happen."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition is over plain counters
            await asyncio.sleep(0.01)


def check_once_and_in_order(found: list[StoredRecord], writers: list[Writer]) -> None:
    """Each series is there once, whole as far as acknowledged, and in order within each partition."""
    for partition in range(3):
        offsets = [r.offset for r in found if r.partition == partition]
        assert offsets == list(range(len(offsets)))
        for writer in writers:
            mine = f"{writer.series}/".encode()
            numbers = [
                int(r.body[len(mine) :])
                for r in found
                if r.partition == partition and r.body.startswith(mine)
            ]
            assert numbers == sorted(set(numbers)), f"{writer.series} is out of order or doubled"
            assert set(numbers) >= set(range(partition, writer.acknowledged, 3)), (
                f"{writer.series} lost records"
            )


@pytest.mark.parametrize("fault", ["stop", "kill", "freeze"])
async def test_appends_and_reads_go_on_after_an_outage(kafka_node: KafkaNode, fault: str) -> None:
    async with opened_log(kafka_node) as log:
        writers = [Writer(log, f"w{n}") for n in range(4)]
        reader = Reader(log)
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(writer.run()) for writer in writers]
            reading = tasks.create_task(reader.run())
            await until(lambda: min(w.acknowledged for w in writers) >= 100, "writing began")
            await asyncio.to_thread(
                {"stop": kafka_node.stop, "kill": kafka_node.kill, "freeze": kafka_node.pause}[fault]
            )
            await until(lambda: min(w.refused for w in writers) >= 1, "the outage was noticed")
            await asyncio.to_thread(kafka_node.resume if fault == "freeze" else kafka_node.start)
            before = [writer.acknowledged for writer in writers]
            await until(
                lambda: all(w.acknowledged >= old + 100 for w, old in zip(writers, before, strict=True)),
                "writing resumed",
            )
            for writer in writers:
                writer.stopping = True
            await asyncio.wait(writing)
            end = await log.end_positions(NAME)
            await until(lambda: reader.at == end, "reading resumed")
            reading.cancel()
        check_once_and_in_order(await read_all(log, NAME), writers)
        assert len(reader.found) == len({(r.partition, r.offset) for r in reader.found})
        check_once_and_in_order(reader.found, writers)
    async with opened_log(kafka_node) as log:
        check_once_and_in_order(await read_all(log, NAME), writers)


async def test_a_repetition_after_an_unknown_outcome_is_not_stored_twice(kafka_node: KafkaNode) -> None:
    """While Kafka is frozen the outcome is unknown; the repetition joins the first attempt instead of a second one."""
    async with opened_log(kafka_node, append_timeout_s=0.5) as log:
        appended(await log.append(NAME, [record(0)]))
        kafka_node.pause()
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await log.append(NAME, [record(1), record(2)])
        kafka_node.resume()
        async with asyncio.timeout(30):
            while True:
                try:
                    places = appended(await log.append(NAME, [record(1), record(2)]))
                    break
                except StorageUnavailable:
                    await asyncio.sleep(0.05)
        assert all(place.duplicate for place in places)
        assert sorted(r.body for r in await read_all(log, NAME)) == [b"r/0", b"r/1", b"r/2"]


async def test_the_buffer_is_bounded_while_kafka_is_away(kafka_node: KafkaNode) -> None:
    async with opened_log(kafka_node, append_timeout_s=0.3) as log:
        await asyncio.to_thread(kafka_node.stop)
        body = bytes(1024 * 1024)
        outcomes = await asyncio.gather(
            *(log.append(NAME, [record(n, body=body)]) for n in range(200)), return_exceptions=True
        )
        assert all(isinstance(outcome, StorageUnavailable) for outcome in outcomes)
        assert log._outbox.held_bytes <= 34 * 1024 * 1024
        await asyncio.to_thread(kafka_node.start)


async def test_the_cluster_is_asked_until_it_is_back(kafka_node: KafkaNode) -> None:
    admin = ClusterAdmin(connection_to(kafka_node), timeout_s=60)
    name = connection_to(kafka_node).topic("asked")
    await admin.ensure_topic(name, 2, {})
    await asyncio.to_thread(kafka_node.stop)
    asked = asyncio.create_task(admin.offsets(name, 2, OffsetSpec.LATEST))
    await asyncio.to_thread(kafka_node.start)
    assert await asked == (0, 0)
    await admin.close()


async def test_ledger_and_subscriptions_refuse_and_recover(kafka_node: KafkaNode) -> None:
    ledger = await opened_ledger(kafka_node, append_timeout_s=1.0)
    store = await KafkaSubscriptionStore.open(connection_to(kafka_node), timeout_s=1.0)
    held = await store.claim((await store.create(subscription())).key, START_MS)
    assert held is not None
    entry = LedgerEntry("publish", START_MS, {"number": 1})
    assert [place.index for place in await ledger.append([entry])] == [0]
    await asyncio.to_thread(kafka_node.stop)
    with pytest.raises(StorageUnavailable):
        await ledger.append([entry])
    with pytest.raises(StorageUnavailable):
        await store.commit(held.key, held.epoch, (5, 5), START_MS)
    assert store.present_epoch(held.key) == held.epoch
    await asyncio.to_thread(kafka_node.start)
    await _until_it_works(lambda: ledger.append([entry]))
    await _until_it_works(lambda: store.commit(held.key, held.epoch, (7, 2), START_MS))
    found = await store.get(held.key)
    assert found is not None
    assert found.positions in {(7, 2), (7, 5)}
    with pytest.raises(EpochConflict):
        await store.commit(held.key, held.epoch - 1, (9, 9), START_MS)
    await store.close()
    # What nobody waited for any more was stored all the same: once, and in its place.
    assert await indexes_of(ledger) == list(range(ledger.size))
    assert ledger.size >= 3
    root = ledger.tree.root()
    await ledger.close()
    ledger = await opened_ledger(kafka_node)
    assert ledger.tree.root() == root
    await ledger.close()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_ledger_entries_of_many_callers_survive_an_outage_once_each(
    kafka_node: KafkaNode, fault: str
) -> None:
    ledger = await opened_ledger(kafka_node, append_timeout_s=60.0)
    confirmed: dict[int, tuple[int, int]] = {}

    async def write(writer: int) -> None:
        for number in range(60):
            entry = LedgerEntry("publish", START_MS, {"call": [writer, number]})
            (place,) = await ledger.append([entry])
            confirmed[place.index] = writer, number

    async with asyncio.TaskGroup() as tasks:
        for writer in range(8):
            tasks.create_task(write(writer))
        await until(lambda: len(confirmed) >= 80, "writing began")
        await asyncio.to_thread(kafka_node.kill if fault == "kill" else kafka_node.pause)
        held = len(confirmed)
        await asyncio.to_thread(kafka_node.start if fault == "kill" else kafka_node.resume)
        await until(lambda: len(confirmed) > held, "writing resumed")
    stored = {found.index: tuple(found.entry.body["call"]) async for found in ledger.read()}  # type: ignore[arg-type]
    assert stored == confirmed
    assert sorted(stored) == list(range(480))
    root = ledger.tree.root()
    await ledger.close()
    ledger = await opened_ledger(kafka_node)
    assert ledger.tree.root() == root
    await ledger.close()


async def test_whoever_claims_after_an_outage_stops_the_writer_that_waits(kafka_node: KafkaNode) -> None:
    """Its entries are in flight while another one takes over: stored before the claim and confirmed, or void and refused."""
    older = await opened_ledger(kafka_node, append_timeout_s=60.0)
    await older.append([LedgerEntry("publish", START_MS, {"call": 0})])
    log = await KafkaLedgerLog.open(connection_to(kafka_node))
    kafka_node.pause()
    waiting = asyncio.create_task(older.append([LedgerEntry("publish", START_MS, {"call": 1})]))
    claiming = asyncio.create_task(open_writer(log))
    kafka_node.resume()
    newer = await claiming
    entries = 1 + await confirmed(waiting)
    with pytest.raises(LedgerFenced):
        await older.append([LedgerEntry("publish", START_MS, {"call": 2})])
    assert older.fenced.done()
    (place,) = await newer.append([LedgerEntry("publish", START_MS, {"call": 3})])
    assert place.index == entries
    assert await indexes_of(newer) == list(range(entries + 1))
    await older.close()
    await newer.close()


async def confirmed(appended: asyncio.Task[Sequence[Place]]) -> int:
    """How many entries it confirmed."""
    try:
        return len(await appended)
    except LedgerFenced:
        return 0


async def opened_ledger(node: KafkaNode, **options: float) -> OpenedWriter:
    return await open_writer(await KafkaLedgerLog.open(connection_to(node), partitions=2), **options)


async def indexes_of(ledger: OpenedWriter) -> list[int]:
    return [stored.index async for stored in ledger.read()]


async def _until_it_works(attempt: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await attempt()  # type: ignore[misc]
                return
            except StorageUnavailable:
                await asyncio.sleep(0.05)


async def test_closing_while_kafka_is_away_ends_all_threads(kafka_node: KafkaNode) -> None:
    before = set(threading.enumerate())
    log = await KafkaRecordLog.open(connection_to(kafka_node), fingerprint=fingerprint, append_timeout_s=0.5)
    await log.open_topic(topic())
    ledger = await opened_ledger(kafka_node, append_timeout_s=0.5)
    await asyncio.get_running_loop().run_in_executor(None, kafka_node.stop)
    with pytest.raises(StorageUnavailable):
        await log.append(NAME, [record(1)])
    with pytest.raises(StorageUnavailable):
        await ledger.append([LedgerEntry("publish", START_MS, {})])
    async with asyncio.timeout(40):
        await log.close()
        await ledger.close()
    left = {t.name for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio_")}
    assert left == set()


async def test_opening_without_kafka_is_refused_and_leaves_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "BOOTSTRAP_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(clients, "REACH_TIMEOUT_S", 1.0)
    nobody = KafkaConnection(bootstrap=(f"127.0.0.1:{free_port()}",), prefix=PREFIX, replication=1)
    before = set(threading.enumerate())
    outcomes = await asyncio.gather(
        KafkaRecordLog.open(nobody, fingerprint=fingerprint),
        KafkaLedgerLog.open(nobody),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable, StorageUnavailable]
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
