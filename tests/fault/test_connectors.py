"""From an agency's Kafka over the exchange into another agency's Kafka, while each part on the way is killed.

What has to be true afterwards is what an agency relies on: the receiving topic, read committed, holds exactly what the
policy entitles its agency to, once each and in order per key; what could not be moved is a dead letter of the sending
agency and nobody else's; and the ledger verifies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.kafka.node import KafkaNode
from tests.services.agency_kafka import Arrivals, produce
from tests.services.agency_records import Made, entitled_among
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess
from tests.services.course import Course, check_all, prepare
from tests.services.kafka import new_node

pytestmark = [pytest.mark.kafka, pytest.mark.opa, pytest.mark.slow]

LIMITS = {"heartbeat_s": 0.5, "drain_s": 1.0}


Fault = Callable[[], None]
Part = ConnectProcess | BrokerProcess | KafkaNode


def killed(process: Part) -> Fault:
    """kill -9, and started again at once."""

    def fault() -> None:
        process.kill()
        process.start()

    return fault


def run_through(course: Course, made: Made, count: int, faults: list[tuple[int, Fault]]) -> None:
    """Move so many records, while each fault strikes once as many as it says have arrived."""
    course.start()
    with Arrivals(course.receiving, course.topics.received) as arrivals:
        produce(course.sending, course.topics.sent, made.records(0, count))
        for number, fault in faults:
            arrivals.until(number)
            fault()
        arrivals.until(entitled_among(made, count))
    course.stop()


@pytest.mark.timeout(300)
def test_kills_of_each_part_on_the_way_neither_lose_nor_repeat_nor_reorder(course: Course) -> None:
    made, count = Made(seed=1, keys=40), 3_000
    entitled = entitled_among(made, count)
    parts: tuple[Part, ...] = (course.source, course.sink, course.broker)
    faults = [(1 + number * entitled // 4, killed(part)) for number, part in enumerate(parts)]
    run_through(course, made, count, faults)
    check_all(course, made, count)


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[list[KafkaNode]]:
    """Three nodes: the sending agency's, the receiving one's and the exchange's."""
    nodes = [new_node(tmp_path / f"kafka-{number}") for number in range(3)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("count", [1_000_000])
def test_thirty_kills_at_random_in_one_run(clusters: list[KafkaNode], tmp_path: Path, count: int) -> None:
    sending, receiving, own = clusters
    broker = BrokerProcess(tmp_path / "exchange", kafka=own.bootstrap, limits=LIMITS)
    broker.start()
    course = prepare(broker, tmp_path, sending.bootstrap, receiving.bootstrap)
    made, dice = Made(seed=2, keys=2_000, filler_bytes=600), random.Random(2)
    entitled = entitled_among(made, count)
    parts: list[Part] = [course.source, course.sink, broker, sending, receiving, own]
    faults = [
        (number, killed(part))
        for number, part in zip(
            sorted(dice.sample(range(entitled), 30)), dice.sample(parts * 5, 30), strict=True
        )
    ]
    try:
        run_through(course, made, count, faults)
        check_all(course, made, count)
    finally:
        course.kill()
        broker.stop()
