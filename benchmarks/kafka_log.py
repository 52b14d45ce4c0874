"""Rates of the Kafka record log beside those of bare kafka-python clients, in one run on one node.

    .venv/bin/python -m benchmarks.kafka_log [--records 100000] [--bootstrap HOST:PORT]

Without --bootstrap a Kafka node of its own is started. Bodies have 1 KB; one topic of 3 partitions.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import TopicPartition

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.record_log import KafkaRecordLog
from broker.model.record import NewRecord
from broker.model.registry import Topic
from tests.services.kafka import running_node

BODY_BYTES = 1024
BATCH = 500
WRITERS = 4
NAME = "benchmark"
PARTITIONS = 3


@contextmanager
def bootstrap_address(given: str | None) -> Iterator[str]:
    """The given cluster, or a node for the time of the run."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as directory, running_node(Path(directory) / "kafka") as node:
        yield node.bootstrap


def fingerprint(body: bytes) -> tuple[bytes, bytes]:
    """The number that begins each body, twice: as cheap as it can be."""
    return body[:16], body[:16]


def records(count: int) -> list[NewRecord]:
    """Distinct records with random bodies."""
    filler = os.urandom(BODY_BYTES - 16)
    names = [hashlib.sha256(str(n).encode()).digest()[:16] for n in range(count)]
    return [NewRecord(name, name, name, name + filler, 1_800_000_000_000 + n) for n, name in enumerate(names)]


async def append_all(log: KafkaRecordLog, made: list[NewRecord]) -> float:
    """Seconds that a few concurrent writers take."""
    batches = [made[at : at + BATCH] for at in range(0, len(made), BATCH)]

    async def write(own: list[list[NewRecord]]) -> None:
        for batch in own:
            await log.append(NAME, batch)

    begun = time.perf_counter()
    await asyncio.gather(*(write(batches[n::WRITERS]) for n in range(WRITERS)))
    return time.perf_counter() - begun


async def read_all(log: KafkaRecordLog, count: int) -> float:
    """Seconds that reading from the start takes."""
    at, found = (0,) * PARTITIONS, 0
    begun = time.perf_counter()
    while found < count:
        chunk = await log.read(NAME, at, max_records=BATCH, max_bytes=1 << 20, wait_s=10)
        at, found = chunk.next_positions, found + len(chunk.records)
    return time.perf_counter() - begun


def bare_consume(connection: KafkaConnection, count: int) -> float:
    """Seconds that a bare consumer takes for the same."""
    consumer = connection.consumer(max_poll_records=2_000)
    places = [TopicPartition(connection.topic("records", NAME), n) for n in range(PARTITIONS)]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, 0)
    found = 0
    begun = time.perf_counter()
    while found < count:
        found += sum(len(batch) for batch in consumer.poll(timeout_ms=1_000).values())
    taken = time.perf_counter() - begun
    consumer.close()
    return taken


def bare_produce(connection: KafkaConnection, made: list[NewRecord]) -> float:
    """Seconds that a bare idempotent producer takes to have all acknowledged."""
    producer = connection.producer(batch_size=1 << 20)
    topic = connection.topic("records", "bare")
    producer.partitions_for(topic)
    begun = time.perf_counter()
    for number, record in enumerate(made):
        producer.send(topic, value=record.body, key=record.partition_key, partition=number % PARTITIONS)
    producer.flush()
    taken = time.perf_counter() - begun
    producer.close()
    return taken


async def measure(bootstrap: str, count: int) -> dict[str, float]:
    """All rates, in records a second, and ratios to the bare clients."""
    connection = KafkaConnection(bootstrap=(bootstrap,), prefix=f"b{uuid.uuid4().hex[:8]}", replication=1)
    made = records(count)
    log = await KafkaRecordLog.open(connection, fingerprint=fingerprint)
    for name in (NAME, "bare"):
        await log.open_topic(Topic(name, "", "", frozenset(), PARTITIONS, None))
    rates = {
        "append": count / await append_all(log, made),
        "bare_producer": count / await asyncio.to_thread(bare_produce, connection, made),
        "read_from_memory_and_kafka": count / await read_all(log, count),
    }
    await log.close()
    begun = time.perf_counter()
    log = await KafkaRecordLog.open(connection, fingerprint=fingerprint, ring_bytes=1 << 20)
    await log.open_topic(Topic(NAME, "", "", frozenset(), PARTITIONS, None))
    rates["open_and_index"] = count / (time.perf_counter() - begun)
    rates["catch_up"] = count / await read_all(log, count)
    await log.close()
    rates["bare_consumer"] = count / await asyncio.to_thread(bare_consume, connection, count)
    rates["catch_up_ratio"] = rates["catch_up"] / rates["bare_consumer"]
    rates["append_ratio"] = rates["append"] / rates["bare_producer"]
    return rates


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description="Rates of the Kafka record log, 1 KB records.")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    with bootstrap_address(options.bootstrap) as bootstrap:
        rates = asyncio.run(measure(bootstrap, options.records))
    print(json.dumps({name: round(rate, 2 if rate < 100 else 0) for name, rate in rates.items()}, indent=2))


if __name__ == "__main__":
    main()
