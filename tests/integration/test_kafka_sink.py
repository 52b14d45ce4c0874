"""The Kafka sink on a real cluster: what it writes, what a reader of committed records sees, and what goes wrong there."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Producer

from connectors.client import Client
from connectors.cloudevents import new_record
from connectors.kafka.sink import PLUGIN, KafkaSink
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.runtime.model import ConnectorFailed, Offset, Redriven
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.progress import Progress
from deploy.kafka.node import java_command
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.services.agency_kafka import arrived, create_topics
from tests.services.agency_records import Arrived
from tests.services.exchange import Script, running_exchange
from tests.services.kafka import QUICK_JAVA
from tests.services.kafka_topics import set_topic_config

pytestmark = pytest.mark.kafka

PATIENCE_S = 60.0


def record(number: int, *, pad: int = 0) -> CloudEvent:
    made = new_record(
        type="gov.niem.crash-driver.v1",
        source="//highway-patrol/crashes",
        id=f"r-{number}",
        data={"number": number, "pad": "x" * pad},
        labels={"dataclassification": "green", "purposes": ["care", "statistics"]},
        subject="crash",
    )
    made.attributes["recordedtime"].ce_timestamp.FromMilliseconds(1_769_817_600_000 + number)
    return made


@dataclass
class World:
    """A scripted exchange, a client of it, and topics of the test's own on a real cluster."""

    bootstrap: str
    script: Script
    exchange: Client
    name: str = field(default_factory=lambda: f"s{uuid4().hex[:8]}")

    def topic(self, name: str) -> str:
        return f"{self.name}.{name}"

    def sink(self, *, on_error: str = "fail", **write: object) -> KafkaSink:
        """A process of its own, as far as the sink can tell."""
        settings = KafkaSinkSettings.model_validate(
            {
                "plugin": "kafka-sink",
                "exchange": {"endpoint": "exchange.example:7443", "token_env": "TOKEN"},
                "topic": "crash-reports",
                "purpose": "care",
                "on_error": on_error,
                "kafka": {"bootstrap": [self.bootstrap], "insecure_plaintext": True},
                "write": {
                    "topic": self.topic("{topic}"),
                    "notice_topic": self.topic("notices"),
                    "cursor_topic": self.topic("cursors"),
                    "dead_letter_topic": self.topic("dead"),
                    "create_topics": True,
                    **write,
                },
            }
        )
        made = PLUGIN.make(self.name, settings, Path("unused"))
        assert isinstance(made, KafkaSink)
        return made

    async def stored(self, name: str = "crash-reports") -> list[Arrived]:
        """What is committed to a topic."""
        return await asyncio.to_thread(lambda: list(arrived(self.bootstrap, self.topic(name))))

    async def ids(self) -> list[str]:
        """Of the records; a tombstone has none."""
        return [each.headers["ce_id"].decode() for each in await self.stored() if each.value is not None]


@dataclass
class Running:
    """A sink's task while it runs."""

    task: asyncio.Task[None]
    gate: Gate
    progress: Progress

    async def until(self, records: int) -> None:
        """Wait until it has moved so many."""
        async with asyncio.timeout(PATIENCE_S):
            while self.progress.records < records:
                await asyncio.wait({self.task}, timeout=0.02)
                if self.task.done():
                    self.task.result()
                    raise AssertionError("it ended")

    async def until_open(self, streams: int, script: Script) -> None:
        """Wait until so many streams have been opened."""
        async with asyncio.timeout(PATIENCE_S):
            while len(script.opens) < streams:
                await asyncio.wait({self.task}, timeout=0.02)

    async def failure(self) -> ConnectorFailed:
        """How it ends."""
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectorFailed) as failed:
                await asyncio.shield(self.task)
        return failed.value


@asynccontextmanager
async def running(world: World, sink: KafkaSink) -> AsyncIterator[Running]:
    """Stopped at the end, unless it has ended."""
    gate, progress = Gate(), Progress()
    task = asyncio.create_task(sink.run(TaskContext(world.name, 0, world.exchange, gate, progress)))
    try:
        yield Running(task, gate, progress)
        gate.set(stopping=True)
        if not task.done():
            async with asyncio.timeout(PATIENCE_S):
                await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world(kafka_bootstrap: str) -> AsyncIterator[World]:
    script = Script(batch_size=4)
    async with (
        running_exchange(script) as endpoint,
        Client(endpoint, token="t", insecure_plaintext=True) as exchange,
    ):
        yield World(kafka_bootstrap, script, exchange)


def as_event(found: Arrived) -> Any:
    """As the public CloudEvents SDK reads it."""
    headers: Mapping[str, bytes] = found.headers
    return from_kafka_event(KafkaMessage(dict(headers), None, found.value or b""), JSONFormat())


async def test_records_notices_and_withdrawals_arrive_as_the_standard_and_the_page_say(world: World) -> None:
    world.script.log += [record(number) for number in range(10)]
    world.script.notices.add("r-3")
    world.script.withdrawn.add("r-4")
    async with running(world, world.sink()) as sink:
        await sink.until(10)
        [offset] = await world.sink().offsets(world.exchange)
    stored = await world.stored()
    assert sorted(each.key or b"" for each in stored) == sorted(
        f"//highway-patrol/crashes r-{number}".encode() for number in range(10) if number != 3
    )
    (tombstone,) = [each for each in stored if each.value is None]
    assert (tombstone.key, tombstone.headers) == (b"//highway-patrol/crashes r-4", {})
    (first,) = [each for each in stored if (each.key or b"").endswith(b" r-0")]
    event = as_event(first)
    assert (event.get_id(), event.get_source()) == ("r-0", "//highway-patrol/crashes")
    assert event.get_type() == "gov.niem.crash-driver.v1"
    assert event.get_data() == {"number": 0, "pad": ""}
    assert event.get_extension("purposes") == "care,statistics"
    shown = {name: value for name, value in first.headers.items() if name.startswith("entente-")}
    assert shown["entente-effect"] == b"release"
    assert shown["entente-masked"] == b"criminal"
    assert shown["entente-obligations"] == b""
    notices = {
        each.headers["entente-kind"]: json.loads(each.value or b"") for each in await world.stored("notices")
    }
    assert notices[b"notice"]["owner"] == "o"
    assert (notices[b"withdrawal"]["id"], notices[b"withdrawal"]["reason"]) == ("r-4", "wrong")
    assert offset.partition == {"subscription": f"connect-{world.name}", "topic": "crash-reports"}
    assert world.script.positions[f"connect-{world.name}"] == 10


async def test_kafkas_own_console_consumer_reads_it(world: World) -> None:
    world.script.log += [record(number) for number in range(3)]
    async with running(world, world.sink()) as sink:
        await sink.until(3)
    shown = await asyncio.to_thread(console_consumer, world.bootstrap, world.topic("crash-reports"), 3)
    assert len(shown) == 3
    for number, line in enumerate(shown):
        headers, key, value = line.split("\t")
        assert f"ce_id:r-{number}," in headers
        assert "entente-effect:release," in headers
        assert key == f"//highway-patrol/crashes r-{number}"
        assert json.loads(value)["number"] == number


def console_consumer(bootstrap: str, topic: str, count: int) -> list[str]:
    """What it prints of so many committed records: headers, key and value."""
    shown = {f"print.{each}": "true" for each in ("headers", "key", "value")}
    options = {
        "--bootstrap-server": bootstrap,
        "--topic": topic,
        "--max-messages": str(count),
        "--timeout-ms": "60000",
        "--isolation-level": "read_committed",
    }
    program = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    arguments = [word for option in options.items() for word in option]
    properties = [word for name, value in shown.items() for word in ("--property", f"{name}={value}")]
    command = java_command(256, program, "--from-beginning", *arguments, *properties, java_options=QUICK_JAVA)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return [line for line in ran.stdout.splitlines() if "\t" in line]


async def test_another_process_goes_on_where_the_last_one_stopped_also_when_the_exchange_has_not_heard(
    world: World,
) -> None:
    world.script.log += [record(number) for number in range(6)]
    async with running(world, world.sink(mode="structured")) as sink:
        await sink.until(6)
    world.script.positions[f"connect-{world.name}"] = 2  # as if the last acknowledgements were lost
    world.script.log += [record(number) for number in range(6, 9)]
    async with running(world, world.sink(mode="structured")) as sink:
        await sink.until(3)
    stored = await world.stored()
    assert [as_event(each).get_id() for each in stored] == [f"r-{number}" for number in range(9)]
    assert as_event(stored[8]).get_data() == {"number": 8, "pad": ""}
    assert stored[0].headers["content-type"] == b"application/cloudevents+json; charset=UTF-8"


async def test_a_broken_stream_repeats_nothing(world: World) -> None:
    world.script.log += [record(number) for number in range(40)]
    world.script.break_after = [5, 9]
    async with running(world, world.sink()) as sink:
        await sink.until(40)
        assert sink.progress.retries == 2
    assert await world.ids() == [f"r-{number}" for number in range(40)]


async def test_a_second_process_takes_over_and_the_first_says_so(world: World) -> None:
    world.script.log += [record(number) for number in range(4)]
    async with running(world, world.sink()) as first:
        await first.until(4)
        async with running(world, world.sink()) as second:
            await second.until_open(2, world.script)
            for number in range(4, 9):
                await world.script.append(record(number))
            failed = await first.failure()
            await second.until(5)
    assert failed.lasting
    assert "another process runs this connector" in failed.cause
    assert await world.ids() == [f"r-{number}" for number in range(9)]


async def test_a_transaction_that_the_cluster_ended_is_written_again(world: World) -> None:
    """As after a pause that was longer than a transaction may last: nobody else has taken the connector over."""
    world.script.log += [record(number) for number in range(4)]
    async with running(world, world.sink()) as ran:
        await ran.until(4)
        identity = f"entente-connect.{world.name}.connect-{world.name}"
        other = Producer({"bootstrap.servers": world.bootstrap, "transactional.id": identity})
        await asyncio.to_thread(other.init_transactions, PATIENCE_S)
        for number in range(4, 9):
            await world.script.append(record(number))
        await ran.until(9)
        assert ran.progress.retries >= 1
    assert await world.ids() == [f"r-{number}" for number in range(9)]


async def test_what_a_topic_does_not_take_is_a_dead_letter_until_it_does(world: World) -> None:
    create_topics(world.bootstrap, {world.topic("crash-reports"): 1}, max_message_bytes="20000")
    create_topics(world.bootstrap, {world.topic("dead"): 2})
    # The first is known to be too large; that the other is, with its headers, only the cluster says.
    pads = {1: 30_000, 4: 19_700}
    world.script.log += [record(number, pad=pads.get(number, 0)) for number in range(6)]
    sink = world.sink(on_error="dead-letter")
    async with running(world, sink) as ran:
        await ran.until(4)
        assert ran.progress.dead_lettered == 2
        world.script.withdrawn.add("r-4")
        await world.script.append(record(4))
        await ran.until(5)
    letters = {
        each.headers["entente.dead-letter.record"]: each for each in await world.stored("dead") if each.value
    }
    assert len(letters) == 2
    for letter in letters.values():
        assert letter.headers["entente.dead-letter.cause"].startswith(b"RECORD_TOO_LARGE")
        assert letter.headers["entente.dead-letter.attempt"] == b"1"
    assert "r-1" not in await world.ids()
    task = TaskContext(world.name, 0, world.exchange, Gate(), Progress())
    assert await sink.redrive(task, None) == Redriven(tried=1, failed=1)
    set_topic_config(world.bootstrap, world.topic("crash-reports"), "max.message.bytes", "1000000")
    assert await sink.redrive(task, None) == Redriven(tried=1, failed=0)
    assert await sink.redrive(task, None) == Redriven(tried=0, failed=0)
    stored = await world.stored()
    written = [(each.headers["ce_id"], len(each.value)) for each in stored if each.value is not None]
    assert [identity for identity, _ in written] == [b"r-0", b"r-2", b"r-3", b"r-5", b"r-1"]
    assert not any(name.startswith("entente.dead-letter") for each in stored for name in each.headers)


async def test_its_place_is_altered_by_cursor_and_by_name(world: World) -> None:
    world.script.log += [record(number) for number in range(4)]
    sink = world.sink()
    async with running(world, sink) as ran:
        await ran.until(4)
    [offset] = await sink.offsets(world.exchange)
    at_two = Offset(offset.partition, {"cursor": "MDoy"})
    await sink.alter_offsets(world.exchange, [at_two])
    assert await sink.offsets(world.exchange) == [at_two]
    async with running(world, sink) as ran:
        await ran.until(2)
    assert await world.ids() == ["r-0", "r-1", "r-2", "r-3", "r-2", "r-3"]
    for wrong in (
        [],
        [at_two, at_two],
        [Offset({"topic": "other"}, None)],
        [Offset(offset.partition, {"offset": 3})],
        [Offset(offset.partition, {"from": "soon"})],
    ):
        with pytest.raises(ValueError, match=r"\w"):
            await sink.alter_offsets(world.exchange, wrong)
    await sink.alter_offsets(world.exchange, [Offset(offset.partition, None)])
    assert await sink.offsets(world.exchange) == [Offset(offset.partition, {"from": "earliest"})]


async def test_a_place_that_is_none_starts_nothing_and_can_be_set_again(world: World) -> None:
    world.script.log += [record(number) for number in range(3)]
    sink = world.sink()
    async with running(world, sink) as ran:
        await ran.until(3)
    key = f"entente-connect.{world.name}.connect-{world.name}"
    await asyncio.to_thread(put, world.bootstrap, world.topic("cursors"), key, b'{"place":{"offset":1}}')
    async with running(world, sink) as ran:
        failed = await ran.failure()
    assert (failed.lasting, "alter its offsets" in failed.cause) == (True, True)
    with pytest.raises(ConnectorFailed, match="alter its offsets"):
        await sink.offsets(world.exchange)
    partition = {"subscription": f"connect-{world.name}", "topic": "crash-reports"}
    await sink.alter_offsets(world.exchange, [Offset(partition, {"cursor": "MDoy"})])
    async with running(world, sink) as ran:
        await ran.until(1)
    assert await world.ids() == ["r-0", "r-1", "r-2", "r-2"]


def put(bootstrap: str, topic: str, key: str, value: bytes) -> None:
    """One record into partition 0, as anybody may who has the right."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value, key, partition=0)
    assert producer.flush(30) == 0


async def test_a_missing_topic_is_named_and_one_that_forgets_cursors_is_refused(world: World) -> None:
    sink = world.sink(create_topics=False)
    findings = await sink.check(world.exchange)
    assert len(findings) == 3
    assert all("has no topic" in each for each in findings)
    async with running(world, sink) as ran:
        failed = await ran.failure()
    assert world.topic("cursors") in failed.cause
    create_topics(world.bootstrap, {world.topic("cursors"): 1}, cleanup_policy="delete")
    async with running(world, sink) as ran:
        assert "cleanup.policy" in (await ran.failure()).cause
    set_topic_config(world.bootstrap, world.topic("cursors"), "cleanup.policy", "compact")
    world.script.log.append(record(0))
    async with running(world, sink) as ran:
        assert world.topic("crash-reports") in (await ran.failure()).cause
    create_topics(
        world.bootstrap, {world.topic("crash-reports"): 1, world.topic("dead"): 1, world.topic("notices"): 1}
    )
    assert await sink.check(world.exchange) == []
    async with running(world, sink) as ran:
        await ran.until(1)
    assert await world.ids() == ["r-0"]
