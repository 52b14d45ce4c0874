"""Traffic while parts are killed again and again, and in bulk: each record there once, each stream without a gap.

In short with every run of the tests, and at length with `make soak`: the same code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from dataclasses import dataclass

import pytest

from deploy.kafka.node import KafkaNode
from tests.services.broker import BrokerProcess
from tests.services.traffic import WHILE_KILLED, WHILE_OPA_FAILS, WHILE_STORES_FAIL, Fault, Traffic

log = logging.getLogger(__name__)

BACKENDS = ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
LANES = 4
LIMITS = {"publish_records_per_s": 1_000_000}


@dataclass(frozen=True)
class Length:
    """How many records a lane, and how often what is killed; Kafka only where it is the backend."""

    records: int
    broker_kills: int
    opa_kills: int
    kafka_outages: int


SHORT = Length(records=300, broker_kills=1, opa_kills=1, kafka_outages=1)
LONG = Length(records=25_000, broker_kills=30, opa_kills=10, kafka_outages=4)


def at_length(short: object, long: object) -> list[object]:
    """Parameters: the short one, and the long one for the soak."""
    return [
        pytest.param(short, id="short"),
        pytest.param(long, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)]),
    ]


def faults_for(broker: BrokerProcess, kafka: KafkaNode | None, length: Length) -> list[Fault]:
    """All of them, in random order."""

    async def kill_broker() -> None:
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)

    async def kill_opa() -> None:
        for pid in broker.children():
            os.kill(pid, signal.SIGKILL)

    async def kill_kafka() -> None:
        assert kafka is not None
        await asyncio.to_thread(kafka.kill)
        await asyncio.to_thread(kafka.start)

    async def restart_kafka() -> None:
        assert kafka is not None
        await asyncio.to_thread(kafka.restart)

    faults: list[Fault] = [kill_broker] * length.broker_kills + [kill_opa] * length.opa_kills
    if kafka is not None:
        faults += [kill_kafka, restart_kafka][: length.kafka_outages] * max(1, length.kafka_outages // 2)
    random.shuffle(faults)
    return faults


@pytest.mark.parametrize("length", at_length(SHORT, LONG))
@pytest.mark.parametrize("broker", BACKENDS, indirect=True)
async def test_parts_killed_under_traffic_lose_and_double_nothing(
    broker: BrokerProcess, length: Length, request: pytest.FixtureRequest
) -> None:
    on_kafka = broker.config.backend.kind == "kafka"
    kafka = request.getfixturevalue("kafka_node") if on_kafka else None
    faults = faults_for(broker, kafka, length)
    moments = sorted(random.sample(range(1, LANES * (length.records - 1)), len(faults)))
    permitted = WHILE_KILLED | WHILE_OPA_FAILS | WHILE_STORES_FAIL
    traffic = Traffic(broker, lanes=LANES, batch=25, permitted=permitted)
    began = time.monotonic()
    await traffic.run(length.records, zip(moments, faults, strict=True))
    await traffic.check_log(length.records)
    log.info(
        "%d faults, %d records, %d streams, %d deliveries, refusals %s, in %.0f s",
        len(faults),
        LANES * length.records,
        traffic.reader.streams,
        traffic.reader.deliveries,
        dict(traffic.failures.seen),
        time.monotonic() - began,
    )
    assert traffic.reader.streams > 1


@pytest.mark.parametrize("records", at_length(1_000, 250_000))
@pytest.mark.parametrize("broker", BACKENDS, indirect=True)
async def test_all_that_is_published_is_delivered_exactly_once(broker: BrokerProcess, records: int) -> None:
    """Without faults a single stream brings everything, and no call fails; memory does not grow with the log."""
    traffic = Traffic(broker, lanes=LANES, batch=500, permitted=())
    began, before = time.monotonic(), broker.resident_bytes()
    await traffic.run(records)
    took = time.monotonic() - began
    await traffic.check_log(records)
    grown = broker.resident_bytes() - before
    log.info(
        "%d records in %.0f s, then read again in %.0f s; memory grew by %d MiB",
        LANES * records,
        took,
        time.monotonic() - began - took,
        grown >> 20,
    )
    assert traffic.reader.streams == 1
    assert traffic.reader.deliveries == LANES * records
    # Caches of records (64 and 64 MiB), and 200 bytes for each of up to 1,000,000 known ids.
    assert grown < 640 << 20
