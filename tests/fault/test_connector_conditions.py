"""Connectors and what happens around them: a second process, an expired token, an agreement that ends, topics and records
that are gone, disks that are full, records that are too large. Each is told as what it is, and nothing is lost or leaked."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from dataclasses import replace

import pytest

from connectors.runtime.model import Offset, State
from connectors.runtime.status import ConnectorStatus
from deploy.kafka.node import KafkaNode
from tests.services.agency_kafka import Arrivals, arrived, create_topics, drop_records, produce
from tests.services.agency_records import Made, entitled_among
from tests.services.agreements import end_agreement, take_back
from tests.services.course import Course, check_all
from tests.services.kafka_topics import delete_topic, stored_records

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.opa,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(600),
]

LIMITS = {"heartbeat_s": 0.5, "drain_s": 1.0, "token_leeway_s": 0}
UNLIMITED = -1
LONG_S = 180.0
"""A failed task starts again after at most a minute."""


def failed_with(*words: str) -> Callable[[ConnectorStatus], bool]:
    """Whether a connector says that it does not work, and why, with one of these words."""

    def met(status: ConnectorStatus) -> bool:
        return status.state is not State.RUNNING and any(word in (status.cause or "") for word in words)

    return met


def arrivals_of(course: Course) -> Arrivals:
    return Arrivals(course.receiving, course.topics.received)


def test_two_processes_share_a_source_and_one_after_the_other_goes(course: Course) -> None:
    made, count = Made(seed=4, keys=100), 6_000
    entitled = entitled_among(made, count)
    second = course.beside()
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, course.topics.sent, made.records(0, count // 2))
        second.start()
        arrivals.until(1)
        produce(course.sending, course.topics.sent, made.records(count // 2, count // 2))
        arrivals.until(entitled // 4)
        assert second.stop() == 0
        second.start()
        arrivals.until(entitled // 2)
        course.source.kill()
        arrivals.until(entitled)
    assert second.stop() == 0
    course.stop()
    check_all(course, made, count)


def test_all_records_on_one_key_keep_their_order_over_kills(course: Course) -> None:
    made, count = Made(seed=5, keys=1), 4_000
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, course.topics.sent, made.records(0, count))
        for number, process in enumerate((course.source, course.sink)):
            arrivals.until(1 + number * 500)
            process.kill()
            process.start()
        arrivals.until(entitled_among(made, count))
    course.stop()
    check_all(course, made, count)


async def test_a_token_that_expires_stops_the_sink_until_there_is_a_new_one(course: Course) -> None:
    made = Made(seed=6, keys=10)
    course.tokens["partner-cert"].renew(ttl_s=20)
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, course.topics.sent, made.records(0, 200))
        await course.sink.until("sink", failed_with("TOKEN_EXPIRED", "UNAUTHENTICATED", "TOKEN_INVALID"))
        produce(course.sending, course.topics.sent, made.records(200, 200))
        course.tokens["partner-cert"].renew()
        await asyncio.to_thread(arrivals.until, entitled_among(made, 400), within_s=LONG_S)
    course.stop()
    await asyncio.to_thread(check_all, course, made, 400)


async def test_an_agreement_that_ends_stops_the_sink_and_one_that_is_back_lets_it_go_on(
    course: Course,
) -> None:
    made = Made(seed=7, keys=10)
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, course.topics.sent, made.records(0, 200))
        await asyncio.to_thread(arrivals.until, entitled_among(made, 200))
        await end_agreement(course.broker, "cyber-centre", "partner-cert-cyber-defence")
        await course.sink.until("sink", failed_with("POLICY_DENIED", "TOPIC_NOT_FOUND"))
        produce(course.sending, course.topics.sent, made.records(200, 200))
        await course.source.until("source", lambda one: one.total.records >= _sent(made, 400))
        kept = sum(1 for _ in arrived(course.receiving, course.topics.received))
        assert kept == entitled_among(made, 200)
        await take_back(course.broker, "cyber-centre")
        await asyncio.to_thread(arrivals.until, entitled_among(made, 400), within_s=LONG_S)
    course.stop()
    await asyncio.to_thread(check_all, course, made, 400)


def _sent(made: Made, count: int) -> int:
    """How many of the first `count` records the exchange takes."""
    return sum(record.kind == "record" for record in made.records(0, count))


async def test_topics_that_are_deleted_are_told_and_work_again_when_they_are_back(course: Course) -> None:
    made, topics = Made(seed=8, keys=10), course.topics
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, topics.sent, made.records(0, 200))
        await asyncio.to_thread(arrivals.until, entitled_among(made, 200))
        delete_topic(course.sending, topics.sent)
        await course.source.until("source", failed_with(topics.sent))
        create_topics(course.sending, {topics.sent: 3})
        produce(course.sending, topics.sent, made.records(200, 200))
        await asyncio.to_thread(arrivals.until, entitled_among(made, 400), within_s=LONG_S)
    delete_topic(course.receiving, topics.received)
    produce(course.sending, topics.sent, made.records(400, 200))
    await course.sink.until("sink", failed_with(topics.received))
    create_topics(course.receiving, {topics.received: 3})
    with arrivals_of(course) as arrivals:
        due = entitled_among(made, 600) - entitled_among(made, 400)
        await asyncio.to_thread(arrivals.until, due, within_s=LONG_S)
    course.stop()
    numbers = {each.number for each in arrived(course.receiving, topics.received)}
    assert numbers == {each.number for each in made.records(400, 200) if each.entitled is not None}


async def test_records_that_went_before_they_were_read_are_told_and_never_skipped_silently(
    course: Course,
) -> None:
    made, topics = Made(seed=9, keys=10), course.topics
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, topics.sent, made.records(0, 200))
        await asyncio.to_thread(arrivals.until, entitled_among(made, 200))
        assert course.source.stop() == 0
        produce(course.sending, topics.sent, made.records(200, 200))
        drop_records(course.sending, topics.sent)
        course.source.start()
        await course.source.until("source", failed_with("retention", "gone", "out of range"))
        async with course.source.control() as control:
            await control.stop("source")
            offsets = await control.offsets("source")
            await control.alter_offsets("source", [Offset(each.partition, None) for each in offsets])
            await control.resume("source")
        produce(course.sending, topics.sent, made.records(400, 200))
        due = entitled_among(made, 600) - entitled_among(made, 400) + entitled_among(made, 200)
        await asyncio.to_thread(arrivals.until, due, within_s=LONG_S)
    course.stop()
    numbers = {each.number for each in arrived(course.receiving, topics.received)}
    wanted = (*made.records(0, 200), *made.records(400, 200))
    assert numbers == {each.number for each in wanted if each.entitled is not None}


TEN_MB = 10_000_000


@pytest.mark.parametrize(
    ("course", "passes"),
    [
        pytest.param(LIMITS, False, id="more-than-the-exchange-takes"),
        pytest.param(
            {**LIMITS, "message_bytes": 16 << 20, "record_bytes": 12 << 20}, True, id="which-it-takes"
        ),
    ],
    indirect=["course"],
)
def test_a_record_of_ten_megabytes_holds_up_nobody(course: Course, passes: bool) -> None:
    made, large = Made(seed=10, keys=1, poison=0), Made(seed=10, keys=1, poison=0, filler_bytes=TEN_MB)
    numbers = [each.number for each in made.records(0, 300) if each.entitled is not None]
    records = list(made.records(0, 300))
    records[numbers[3]] = large.record(numbers[3])
    course.start()
    with arrivals_of(course) as arrivals:
        produce(course.sending, course.topics.sent, records)
        arrivals.until(len(numbers) - (not passes))
    course.stop()
    found = {each.number: each.value for each in arrived(course.receiving, course.topics.received)}
    letters = [each.value for each in stored_records(course.sending, course.topics.dead_letters)]
    if passes:
        assert set(found) == set(numbers) and not letters
        assert len(json.loads(found[numbers[3]] or b"")["shortDescription"]) == TEN_MB
    else:
        assert set(found) == set(numbers) - {numbers[3]}
        assert letters == [records[numbers[3]].value]


def test_a_full_disk_of_the_receiving_kafka_loses_and_repeats_nothing(
    course: Course, kafka_node: KafkaNode
) -> None:
    made, count = replace(Made(seed=11, keys=50), filler_bytes=1_000), 4_000
    course.start()
    with arrivals_of(course) as arrivals:
        limit_files(kafka_node.pid, 200_000)
        produce(course.sending, course.topics.sent, made.records(0, count))
        # It ends by itself: a node whose only directory cannot be written to is of no use.
        kafka_node.wait()
        kafka_node.start()
        arrivals.until(entitled_among(made, count), within_s=LONG_S)
    course.stop()
    check_all(course, made, count)


async def test_a_full_disk_of_the_exchange_holds_the_source_back(course: Course) -> None:
    made, count = Made(seed=12, keys=50, filler_bytes=1_000), 2_000
    course.start()
    with arrivals_of(course) as arrivals:
        course.broker.limit_files(600_000)
        produce(course.sending, course.topics.sent, made.records(0, count))
        await course.source.until("source", lambda one: one.total.retries > 0 or one.cause is not None)
        course.broker.limit_files(UNLIMITED)
        await asyncio.to_thread(arrivals.until, entitled_among(made, count), within_s=LONG_S)
    course.stop()
    await asyncio.to_thread(check_all, course, made, count)


def limit_files(pid: int, size_bytes: int) -> None:
    """Bound each file that a process writes from now on, as a full disk would."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
