"""A whole broker on Kafka: Kafka away, the broker killed, two instances side by side, topics that lost their past."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cloudevents.core.formats.json import JSONFormat

from connectors.cloudevents import to_json_event
from deploy.kafka.node import KafkaNode
from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import (
    ON_EXPIRED_EARLIEST,
    START_POSITION_LATEST,
    Credit,
    PublishAcknowledgement,
)
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fault.streams import stream
from tests.integration.exchange.failure import Failure
from tests.integration.exchange.live import Stream
from tests.services.broker import ENTENTE, BrokerProcess, vulnerability
from tests.services.kafka_topics import delete_topic, set_topic_config, stored_records
from tests.services.traffic import WHILE_STORES_FAIL, Failures, Lane, Progress, Reader

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TOPIC = "vulnerabilities"
LIMITS = {"heartbeat_s": 0.2, "drain_s": 0.0}
LATEST = {"position": START_POSITION_LATEST}

Pair = tuple[BrokerProcess, BrokerProcess]


@pytest.fixture
def broker(kafka_node: KafkaNode, tmp_path: Path) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path / "exchange", kafka=kafka_node.bootstrap, limits=LIMITS)
    process.start()
    yield process
    kafka_node.start()
    process.stop()


@pytest.fixture(scope="module")
def pair(module_kafka_node: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two instances of one exchange, for tests that leave all running."""
    module_kafka_node.start()
    root = tmp_path_factory.mktemp("pair")
    first = BrokerProcess(root / "first", kafka=module_kafka_node.bootstrap, limits=LIMITS)
    second = BrokerProcess.beside(first, root / "second")
    for each in (first, second):
        each.start()
    yield first, second
    for each in (first, second):
        each.stop()


def kafka_topic(broker: BrokerProcess) -> str:
    return f"{broker.kafka_prefix}.records.{TOPIC}"


async def publish(broker: BrokerProcess, *ids: str, key: str = "k") -> list[PublishAcknowledgement]:
    """All accepted; of one partition key, so that they are delivered in this order."""
    async with broker.channel() as channel:
        results = await broker.publish(channel, [vulnerability(each, partition_key=key) for each in ids])
    assert [result.refused.reason for result in results] == [""] * len(ids)
    return [result.accepted for result in results]


@pytest.mark.parametrize("fault", ["stop", pytest.param("kill", marks=pytest.mark.soak)])
async def test_without_kafka_nothing_is_acknowledged_or_released_and_afterwards_all_is_there_once(
    broker: BrokerProcess, kafka_node: KafkaNode, fault: str
) -> None:
    """The waiting stream's records lie in the broker's memory, so only the ledger can hold them back."""
    names = ["a", "b", "c"]
    failures, progress = Failures(WHILE_STORES_FAIL), Progress()
    lanes = [Lane(broker, name, batch=20, failures=failures, progress=progress) for name in names]
    follower = Reader(broker, names, failures=Failures(()))
    async with stream(broker, credit=Credit(), subscription="waits") as waiting, asyncio.TaskGroup() as tasks:
        await waiting.opened()
        for lane in lanes:
            tasks.create_task(lane.run(1_000))
        following = tasks.create_task(follower.run(1_000))
        await progress.reaches(600)
        await asyncio.to_thread(kafka_node.stop if fault == "stop" else kafka_node.kill)
        await waiting.send(credit=Credit(records=100))
        await failures.progress.reaches(1)
        await waiting.beats(5)
        assert {each.WhichOneof("message") for each in waiting.seen} == {"opened", "heartbeat"}
        assert not following.done()
        await asyncio.to_thread(kafka_node.start)
        assert len(await waiting.ids(100)) == 100
    assert follower.streams == 1
    stored = stored_records(kafka_node.bootstrap, kafka_topic(broker))
    assert Counter(CloudEvent.FromString(each.value).id for each in stored) == Counter(
        f"{name}/{number}" for name in names for number in range(1_000)
    )
    async with broker.channel() as channel:
        for name in names:
            again = [vulnerability(f"{name}/{number}", partition_key=name) for number in range(1_000)]
            results = await broker.publish(channel, again)
            assert all(result.accepted.duplicate for result in results)


async def test_what_is_stored_and_what_is_delivered_are_read_by_others(
    pair: Pair, module_kafka_node: KafkaNode
) -> None:
    """Kafka's records by confluent-kafka; a delivery in the CloudEvents JSON format by the CloudEvents SDK."""
    broker, _ = pair
    async with stream(broker, **LATEST) as opened:
        await opened.opened()
        await publish(broker, "CVE-1", "CVE-2")
        deliveries = await opened.deliveries(2)
    stored = list(stored_records(module_kafka_node.bootstrap, kafka_topic(broker)))
    assert {each.headers for each in stored} == {(("content-type", b"application/cloudevents+protobuf"),)}
    events = {event.id: event for event in (CloudEvent.FromString(each.value) for each in stored)}
    assert {each.key for each in stored} == {b"k"}
    for number, delivery in enumerate(deliveries, 1):
        assert events[f"CVE-{number}"].attributes["recordedtime"].HasField("ce_timestamp")
        event = JSONFormat().read(None, json.dumps(to_json_event(delivery.record)))
        assert event.get_id() == f"CVE-{number}"
        assert event.get_source() == "//cyber-centre/test"
        assert event.get_type() == "gov.cisa.kev.v1"
        assert event.get_datacontenttype() == "application/json"
        assert event.get_extension("dataclassification") == "clear"
        assert event.get_data() == {"cveID": f"CVE-{number}", "shortDescription": ""}


async def test_a_second_instance_delivers_what_the_first_stores_and_knows_its_duplicates(pair: Pair) -> None:
    first, second = pair
    async with stream(second, **LATEST) as there, stream(first, **LATEST) as here:
        await there.opened()
        await here.opened()
        assert not any(place.duplicate for place in await publish(first, "d1", "d2"))
        assert await there.ids(2) == ["d1", "d2"]
        # What the second one has delivered its tail has read, so its index knows it.
        assert [place.duplicate for place in await publish(second, "d2", "d3")] == [True, False]
        assert await here.ids(3) == ["d1", "d2", "d3"]


async def test_a_cursor_of_one_instance_is_good_at_the_other(pair: Pair) -> None:
    first, second = pair
    async with stream(first, credit=Credit(records=2), **LATEST) as opened:
        await opened.opened()
        await publish(first, "c1", "c2", "c3")
        assert await opened.ids(2) == ["c1", "c2"]
        cursor = opened.seen[-1].batch.cursor
    async with stream(second, cursor=cursor) as opened:
        assert await opened.ids(1) == ["c3"]


async def test_a_subscription_is_taken_over_at_the_other_instance(pair: Pair) -> None:
    """What the first stream acknowledged counts; what it acknowledges afterwards is refused, and moves nothing."""
    first, second = pair
    named = {"subscription": "moves", "credit": Credit(records=1), **LATEST}
    async with stream(first, **named) as loser:
        await loser.opened()
        await publish(first, "t1", "t2", "t3", "t4")
        await loser.acknowledge((await loser.next("batch")).cursor)
        await loser.send(credit=Credit(records=1))
        late = (await loser.next("batch")).cursor
        async with stream(second, **named) as winner:
            assert await winner.ids(1) == ["t2"]
            assert await end_after_ack(loser, late) in {"SUBSCRIPTION_TAKEN_OVER", "ACK_REFUSED"}
            await winner.send(credit=Credit(records=2))
            assert await winner.ids(2) == ["t3", "t4"]
    async with stream(first, subscription="moves") as third:
        assert await third.ids(3) == ["t2", "t3", "t4"]


async def end_after_ack(taken_over: Stream, cursor: bytes) -> str:
    """How a stream ends that acknowledges after it was taken over; it may have been told before."""
    try:
        await taken_over.send(ack=exchange_pb2.Ack(cursor=cursor))
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return (await taken_over.failure()).reason
    return (await taken_over.failure()).reason


async def test_an_idle_stream_is_told_of_a_takeover_at_the_other_instance(pair: Pair) -> None:
    first, second = pair
    async with stream(first, subscription="idle") as loser:
        await loser.opened()
        async with stream(second, subscription="idle") as winner:
            await winner.opened()
            assert (await loser.failure()).reason == "SUBSCRIPTION_TAKEN_OVER"


async def test_a_topic_that_was_made_anew_refuses_old_cursors(
    broker: BrokerProcess, kafka_node: KafkaNode
) -> None:
    await publish(broker, "1", "2")
    async with stream(broker, subscription="named", credit=Credit(records=1)) as opened:
        cursor = (await opened.next("batch")).cursor
        await opened.acknowledge(cursor)
    async with stream(broker, credit=Credit(records=1)) as opened:
        unnamed = (await opened.next("batch")).cursor
    assert broker.stop() == 0
    await asyncio.to_thread(delete_topic, kafka_node.bootstrap, kafka_topic(broker))
    broker.start()
    await publish(broker, "2", "3")
    for opening in ({"cursor": unnamed}, {"subscription": "named"}):
        async with stream(broker, **opening) as opened:
            assert (await opened.failure()).reason == "CURSOR_INVALID"
    async with stream(broker) as opened:
        assert await opened.ids(2) == ["2", "3"]


async def test_an_expired_position_fails_or_goes_on_from_the_earliest(
    broker: BrokerProcess, kafka_node: KafkaNode
) -> None:
    """Retention itself removes the records, not a truncation."""
    bootstrap, name = kafka_node.bootstrap, kafka_topic(broker)
    async with stream(broker, credit=Credit()) as opened:
        cursor = (await opened.opened()).cursor
    await publish(broker, "1", "2")
    await asyncio.to_thread(set_topic_config, bootstrap, name, "retention.ms", "1")
    async with asyncio.timeout(60):
        while await _opens(broker, cursor):  # noqa: ASYNC110 -- what is waited for happens in another process
            await asyncio.sleep(0.1)
    await asyncio.to_thread(set_topic_config, bootstrap, name, "retention.ms", "-1")
    await publish(broker, "3")
    async with stream(broker, cursor=cursor, on_expired=ON_EXPIRED_EARLIEST) as opened:
        assert await opened.ids(1) == ["3"]


async def _opens(broker: BrokerProcess, cursor: bytes) -> bool:
    """Whether a stream from this cursor opens; else it has to be for an expired position."""
    async with stream(broker, cursor=cursor, credit=Credit()) as opened:
        try:
            await opened.opened()
        except Failure as failure:
            assert failure.reason == "POSITION_EXPIRED"
            return False
        return True


async def test_a_newer_broker_of_the_same_name_stops_the_older_before_it_releases_more(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    newer = BrokerProcess.beside(broker, tmp_path / "newer")
    newer.change({"ledger": {"instance": "broker"}})
    async with stream(broker, subscription="kept") as opened:
        assert await opened.opened()
        await publish(broker, "1")
        assert await opened.ids(1) == ["1"]
        newer.start()
        try:
            # The older one learns of it when it accounts for this record, which it therefore does not hand out.
            await publish(newer, "2")
            assert await asyncio.to_thread(broker.wait) == 1
            with pytest.raises(Failure):
                await opened.rest()
            batches = [each.batch for each in opened.seen if each.HasField("batch")]
            assert [delivery.record.id for batch in batches for delivery in batch.deliveries] == ["1"]
            async with stream(newer, subscription="kept") as resumed:
                assert await resumed.ids(2) == ["1", "2"]
        finally:
            newer.stop()
    assert broker.log().splitlines()[-1] == (
        "entente: another broker has taken over the ledger 'broker', and this one stops;"
        " give each a ledger.instance of its own"
    )


async def test_a_second_start_by_mistake_stops_nobody(broker: BrokerProcess) -> None:
    """The same configuration: its addresses are taken, which is found before the ledger is claimed."""
    command = [ENTENTE, "serve", "--config", broker.file]
    second = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert "cannot listen there" in second.stderr.splitlines()[-1]
    async with stream(broker) as opened:
        await opened.opened()
        await publish(broker, "1")
        assert await opened.ids(1) == ["1"]
