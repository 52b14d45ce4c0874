"""The Kafka source on a real cluster, in front of an exchange in memory: what it reads, commits, gives up and says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from confluent_kafka import Producer, TopicPartition, admin

from connectors.client import Client
from connectors.kafka.connection import Cluster
from connectors.kafka.dead_letters import DeadLetterTopic
from connectors.kafka.group import Group
from connectors.kafka.source import PLUGIN, KafkaSource
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed, Offset, Redriven
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.progress import Progress
from connectors.runtime.refusals import Letter
from tests.services.agency_kafka import create_topics
from tests.services.exchange import Script, running_exchange
from tests.services.kafka_topics import stored_records

pytestmark = pytest.mark.kafka


def source(
    bootstrap: str, topic: str, on_error: str = "fail", label: Mapping[str, str] | None = None, **read: Any
) -> KafkaSource:
    """A source of one topic, in a group of that name; `label` adds to where the classification comes from."""
    labels = {"dataclassification": {"path": "$.tlp", **(label or {})}}
    table = {
        "plugin": "kafka-source",
        "exchange": {"endpoint": "127.0.0.1:1", "token_env": "TOKEN"},
        "topic": "crash-reports",
        "on_error": on_error,
        "kafka": {"bootstrap": [bootstrap], "insecure_plaintext": True},
        "read": {"topics": [topic], "group": topic, **read},
        "map": {"type": "t.v1", "source": "//ems/x", "subject": {"key": True}, "labels": labels},
    }
    return PLUGIN.make("crashes", PLUGIN.settings.model_validate(table), Path("unused"))


def produce(
    bootstrap: str, topic: str, *values: object, key: str = "k", partition: int | None = None
) -> None:
    """JSON values, or bytes as they are."""
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 12_000_000})
    choice = {} if partition is None else {"partition": partition}
    for value in values:
        producer.produce(topic, value if isinstance(value, bytes) else orjson.dumps(value), key, **choice)
    assert producer.flush(60) == 0


def good(*numbers: int) -> list[dict[str, object]]:
    return [{"n": each, "tlp": "green"} for each in numbers]


@dataclass
class Site:
    """An exchange in memory and its client."""

    client: Client
    script: Script

    def numbers(self, subject: str | None = None) -> list[int]:
        """What the exchange has stored, in order, of one key or of all."""
        return [
            orjson.loads(each.binary_data)["n"]
            for each in self.script.log
            if subject in (None, each.attributes["subject"].ce_string)
        ]


@dataclass
class Running:
    """A task of a source."""

    run: asyncio.Task[None]
    gate: Gate
    progress: Progress

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                if self.run.done():
                    self.run.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self.gate.set(stopping=True)
        async with asyncio.timeout(60):
            await self.run


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    script = Script()
    async with (
        running_exchange(script) as endpoint,
        Client(endpoint, token="t", insecure_plaintext=True) as client,
    ):
        yield Site(client, script)


@asynccontextmanager
async def at_work(made: KafkaSource, where: Site, number: int = 0) -> AsyncIterator[Running]:
    gate, progress = Gate(), Progress()
    run = asyncio.create_task(made.run(TaskContext("crashes", number, where.client, gate, progress)))
    try:
        yield Running(run, gate, progress)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


def admin_of(bootstrap: str) -> Any:
    library: Any = admin
    return library.AdminClient({"bootstrap.servers": bootstrap})


def delete_topic(bootstrap: str, topic: str) -> None:
    """Returns when the cluster knows it no more."""
    client = admin_of(bootstrap)
    client.delete_topics([topic])[topic].result(60)
    give_up_at = time.monotonic() + 60
    while topic in client.list_topics(timeout=60).topics:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def at(topic: str, *offsets: int | None) -> list[Offset]:
    return [
        Offset({"topic": topic, "partition": number}, None if each is None else {"offset": each})
        for number, each in enumerate(offsets)
    ]


async def test_poison_goes_to_the_dead_letters_and_everything_else_arrives_in_order(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-poison": 2}, max_message_bytes="12000000")
    create_topics(kafka_bootstrap, {"src-dead": 1}, max_message_bytes="12000000")
    huge = {"n": 0, "tlp": "green", "fill": "x" * 10_000_000}
    for partition, key in enumerate(("a", "b")):
        values = [*good(1, 2), {"n": 3}, b"no json", huge, *good(4)]
        produce(kafka_bootstrap, "src-poison", *values, key=key, partition=partition)
    made = source(kafka_bootstrap, "src-poison", "dead-letter", dead_letter_topic="src-dead")
    async with site() as where:
        assert await made.check(where.client) == []
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.dead_lettered == 6 and task.progress.lag_records == 0)
            assert task.progress.lag_s == 0.0
            await task.stop()
            assert (task.progress.records, task.progress.skipped, task.progress.failed) == (6, 0, 0)
        assert where.numbers("a") == where.numbers("b") == [1, 2, 4]
        assert await made.offsets(where.client) == at("src-poison", 6, 6)
        letters = list(stored_records(kafka_bootstrap, "src-dead"))
        told = [dict(each.headers) for each in letters]
        assert sorted(
            (each["entente.dead-letter.partition"], each["entente.dead-letter.offset"]) for each in told
        ) == [(partition, offset) for partition in (b"0", b"1") for offset in (b"2", b"3", b"4")]
        assert {len(each.value or b"") for each in letters} == {7, len(orjson.dumps(huge))}
        # What is no letter, or another connector's, stays where it is.
        produce(kafka_bootstrap, "src-dead", b"no letter")
        other = Letter(AgencyRecord(b"k", b"{}"), "ID_REUSED: why", 1, {"topic": "others"})
        kept = DeadLetterTopic("others", Cluster(bootstrap=(kafka_bootstrap,)), "src-dead")
        await kept.put([other])
        await kept.close()
        context = TaskContext("crashes", 0, where.client, Gate(), Progress())
        assert await made.redrive(context, 2) == Redriven(2, 2)
        assert await made.redrive(context, None) == Redriven(6, 6)
        again = [
            told["entente.dead-letter.attempt"]
            for told in (dict(each.headers) for each in stored_records(kafka_bootstrap, "src-dead"))
            if told.get("entente.dead-letter.connector") == b"crashes"
        ]
        assert sorted(again) == [b"1"] * 6 + [b"2"] * 6 + [b"3"] * 2
        mended = source(
            kafka_bootstrap, "src-poison", "dead-letter", {"default": "red"}, dead_letter_topic="src-dead"
        )
        assert await mended.redrive(context, None) == Redriven(6, 4)
        assert where.numbers("a") == where.numbers("b") == [1, 2, 4, 3]


async def test_two_tasks_share_the_partitions_and_one_goes_on_when_the_other_leaves_or_is_cut_off(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-shared": 4})
    keys = [("a", 0), ("b", 1), ("c", 2), ("d", 3)]

    def put(*numbers: int) -> None:
        for key, partition in keys:
            produce(kafka_bootstrap, "src-shared", *good(*numbers), key=key, partition=partition)

    put(*range(20))
    made = source(kafka_bootstrap, "src-shared", session_timeout_s=6)
    async with site() as where, at_work(made, where) as first:

        def arrived(number: int) -> bool:
            return where.numbers().count(number) == 4

        await first.until(lambda: len(where.script.log) == 80)
        async with at_work(made, where, 1) as second:
            put(*range(20, 40))
            await second.until(lambda: len(where.script.log) == 160)
            last = 39
            while not second.progress.records:  # until the group has given it something
                last += 1
                put(last)
                await second.until(partial(arrived, last))
            second.run.cancel()
            await asyncio.gather(second.run, return_exceptions=True)
        put(last + 1)
        await first.until(lambda: arrived(last + 1))
        await first.stop()
        for key, _ in keys:
            assert where.numbers(key) == list(range(last + 2))
        assert await made.offsets(where.client) == at("src-shared", *([last + 2] * 4))


async def test_what_was_published_and_not_committed_comes_again_and_changes_nothing(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topics(kafka_bootstrap, {"src-crash": 1})
    produce(kafka_bootstrap, "src-crash", *good(*range(5)))
    made = source(kafka_bootstrap, "src-crash")
    async with site() as where:
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.lag_records == 0)
            await task.stop()
        await made.alter_offsets(where.client, at("src-crash", 2))
        produce(kafka_bootstrap, "src-crash", *good(5, 6))
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.records == 5)
            with pytest.raises(ConnectorFailed, match="consumer group src-crash is in use"):
                await made.alter_offsets(where.client, at("src-crash", 0))
            await task.stop()
        assert where.numbers() == [0, 1, 2, 3, 4, 5, 6]
        await made.alter_offsets(where.client, at("src-crash", None))
        assert await made.offsets(where.client) == at("src-crash", None)
        with pytest.raises(ValueError, match="holds offsets 0 to 7, not 8"):
            await made.alter_offsets(where.client, at("src-crash", 8))


async def test_a_topic_that_is_deleted_is_told_and_one_made_in_its_place_is_read_from_its_beginning(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-gone": 1})
    produce(kafka_bootstrap, "src-gone", *good(1, 2, 3))
    made = source(kafka_bootstrap, "src-gone")
    async with site() as where:
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.lag_records == 0)
            await asyncio.to_thread(delete_topic, kafka_bootstrap, "src-gone")
            with pytest.raises(ConnectorFailed, match="topic src-gone of the agency's Kafka") as told:
                async with asyncio.timeout(60):
                    await task.run
            assert not told.value.lasting
        assert "read.topics: topic src-gone" in " ".join(await made.check(where.client))
        async with at_work(made, where) as task:
            with pytest.raises(
                ConnectorFailed, match="src-gone of the agency's Kafka: does not exist; create it"
            ):
                await task.run
        create_topics(kafka_bootstrap, {"src-gone": 1})
        produce(kafka_bootstrap, "src-gone", *good(4, 5))
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.lag_records == 0)
            await task.stop()
        # The ids of offsets 0 and 1 are others than before, or the exchange would refuse them as used.
        assert where.numbers() == [1, 2, 3, 4, 5]
        assert await made.offsets(where.client) == at("src-gone", 2)


async def test_records_that_are_gone_before_they_were_read_are_never_passed_over_in_silence(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-expired": 1})
    produce(kafka_bootstrap, "src-expired", *good(*range(10)))
    made = source(kafka_bootstrap, "src-expired")
    async with site() as where:
        await made.alter_offsets(where.client, at("src-expired", 2))
        gone = TopicPartition("src-expired", 0, 6)
        client = admin_of(kafka_bootstrap)
        client.delete_records([gone])[gone].result(60)
        async with at_work(made, where) as task:
            with pytest.raises(ConnectorFailed, match="offset 2, is gone; offsets 6 to 10 are there") as told:
                await task.run
            assert told.value.lasting
        assert where.numbers() == []
        lenient = source(kafka_bootstrap, "src-expired", on_out_of_range="earliest")
        async with at_work(lenient, where) as task:
            await task.until(lambda: task.progress.lag_records == 0)
            await task.stop()
        assert where.numbers() == [6, 7, 8, 9]


async def test_a_pattern_takes_topics_that_are_made_later_and_never_the_dead_letters(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.reader.METADATA_AGE_MS", 300)
    create_topics(kafka_bootstrap, {"pat.one": 1, "pat.dead": 1, "other.pat.one": 1})
    produce(kafka_bootstrap, "pat.one", *good(1))
    table: Mapping[str, Any] = {"topics": [], "pattern": r"pat\..*", "dead_letter_topic": "pat.dead"}
    made = source(kafka_bootstrap, "pat", "dead-letter", start="latest", **table)
    async with site() as where, at_work(made, where) as task:
        await task.until(lambda: task.progress.lag_records == 0)
        produce(kafka_bootstrap, "pat.one", *good(2), {"n": 3})
        produce(kafka_bootstrap, "other.pat.one", *good(4))
        await task.until(lambda: task.progress.dead_lettered == 1)
        create_topics(kafka_bootstrap, {"pat.two": 1})
        produce(kafka_bootstrap, "pat.two", *good(5))
        await task.until(lambda: 5 in where.numbers())
        await task.stop()
        # The group began at the latest record; what is written to a new topic before it is seen is not left out.
        assert where.numbers() == [2, 5]
        assert task.progress.dead_lettered == 1
        assert [each.partition["topic"] for each in await made.offsets(where.client)] == [
            "pat.one",
            "pat.two",
        ]


async def test_partitions_that_are_added_are_read_also_when_the_group_takes_longer_than_a_poll(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.reader.METADATA_AGE_MS", 300)
    monkeypatch.setattr("connectors.kafka.source_task.POLL_S", 0.02)
    create_topics(kafka_bootstrap, {"src-grown": 1})
    produce(kafka_bootstrap, "src-grown", *good(1))
    made = source(kafka_bootstrap, "src-grown", start="latest")
    async with site() as where, at_work(made, where) as task:
        await task.until(lambda: task.progress.lag_records == 0)
        client, library = admin_of(kafka_bootstrap), cast(Any, admin)
        client.create_partitions([library.NewPartitions("src-grown", 3)])["src-grown"].result(60)
        produce(kafka_bootstrap, "src-grown", *good(2), partition=1)
        produce(kafka_bootstrap, "src-grown", *good(3), partition=2)
        await task.until(lambda: len(where.numbers()) == 2)
        await task.stop()
        assert sorted(where.numbers()) == [2, 3]


async def test_a_task_that_is_given_nothing_though_there_is_enough_says_so(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.reader.IDLE_LOOKS", 1)
    monkeypatch.setattr("connectors.kafka.source_task.LOOK_EVERY_S", 0.0)
    create_topics(kafka_bootstrap, {"src-idle": 1})
    made = source(kafka_bootstrap, "src-idle")
    async with site() as where, at_work(made, where) as first:
        await first.until(lambda: first.progress.lag_records == 0)
        async with at_work(made, where, 1) as second:
            # One of them has nothing to do, and that is as it should be.
            await second.until(lambda: second.progress.lag_records == 0)
            produce(kafka_bootstrap, "src-idle", *good(1))
            await first.until(lambda: where.numbers() == [1])
            monkeypatch.setattr(Group, "members", lambda group: 1)
            with pytest.raises(
                ConnectorFailed, match="gives this task nothing, with 1 partitions for 1 members"
            ):
                await next(asyncio.as_completed([first.run, second.run], timeout=60))


async def test_a_group_begins_at_the_latest_records_of_all_partitions_at_once_whoever_reads_which(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-latest": 4})
    for partition in range(4):
        produce(kafka_bootstrap, "src-latest", *good(1), partition=partition)
    made = source(kafka_bootstrap, "src-latest", start="latest")
    async with site() as where, at_work(made, where) as first, at_work(made, where, 1) as second:
        await first.until(lambda: first.progress.lag_records == 0)
        await second.until(lambda: second.progress.lag_records == 0)
        for partition in range(4):
            produce(kafka_bootstrap, "src-latest", *good(2), partition=partition)
        await first.until(lambda: len(where.numbers()) >= 4)
        assert where.numbers() == [2, 2, 2, 2]
        await first.stop()
        await second.stop()
        assert await made.offsets(where.client) == at("src-latest", 2, 2, 2, 2)


async def test_a_letter_that_is_too_large_for_its_topic_fails_the_task_and_is_never_given_up(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-large": 1}, max_message_bytes="4000000")
    create_topics(kafka_bootstrap, {"src-small": 1}, max_message_bytes="100000")
    produce(kafka_bootstrap, "src-large", {"n": 1, "fill": "x" * 200_000}, *good(2))
    made = source(kafka_bootstrap, "src-large", "dead-letter", dead_letter_topic="src-small")
    async with site() as where, at_work(made, where) as task:
        with pytest.raises(
            ConnectorFailed, match="offset 0: is too large for the dead-letter topic src-small"
        ):
            await task.run
        assert (await made.offsets(where.client))[0].offset in (None, {"offset": 0})


class NoName(str):
    """A header's name that is written as what is no text."""

    __slots__ = ()

    def encode(self, *of: str) -> bytes:
        return b"\xff\xfe"


async def test_a_record_that_cannot_be_read_at_all_is_told_by_its_place_and_can_be_passed_over(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap, {"src-unreadable": 1})
    produce(kafka_bootstrap, "src-unreadable", *good(1))
    writer = Cluster(bootstrap=(kafka_bootstrap,)).producer()
    writer.send("src-unreadable", b"{}", headers=[(NoName("h"), b"v")]).get(timeout=60)
    writer.close()
    produce(kafka_bootstrap, "src-unreadable", *good(2))
    made = source(kafka_bootstrap, "src-unreadable", "skip")
    async with site() as where:
        async with at_work(made, where) as task:
            with pytest.raises(ConnectorFailed, match="partition 0: the record at offset 1 cannot be read"):
                await task.run
        await made.alter_offsets(where.client, at("src-unreadable", 2))
        async with at_work(made, where) as task:
            await task.until(lambda: task.progress.lag_records == 0)
        assert where.numbers()[-1] == 2


async def test_on_error_fail_stops_before_the_record_and_says_which(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap, {"src-fail": 1})
    produce(kafka_bootstrap, "src-fail", {"n": 1, "secret": "kept-in-the-agency"})
    made = source(kafka_bootstrap, "src-fail")
    async with site() as where, at_work(made, where) as task:
        with pytest.raises(ConnectorFailed, match="topic src-fail, partition 0, offset 0") as told:
            await task.run
        assert "kept-in-the-agency" not in told.value.cause
        assert (await made.offsets(where.client))[0].offset in (None, {"offset": 0})
