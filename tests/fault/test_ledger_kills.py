"""Brokers killed under traffic, over and over: the ledger stays sound, and nothing that a client saw lacks its entry.

In short with every run of the tests, and at length with `make soak`: the same code.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.receipts import TopicReceipts
from deploy.kafka.node import KafkaNode
from tests.fault.test_traffic import at_length
from tests.services.broker import BrokerProcess, vulnerability
from tests.services.evidence import Auditor, Receipts, give_witness, receipts, received
from tests.services.traffic import WHILE_KILLED, WHILE_STORES_FAIL, Failures, Lane, Progress, Reader

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]

LIMITS = {"publish_records_per_s": 1_000_000}
SOURCE = "//cyber-centre/test"
LANES = [f"lane-{number}" for number in range(4)]
LARGEST_DELAY_S = 0.2
"""So long after records were acknowledged a kill strikes at most, so that it meets whatever goes on then."""


@dataclass(frozen=True)
class Length:
    """How many records a lane, and how many kills in all; about how many records is asked who saw them."""

    records: int
    kills: int
    samples: int


SHORT = Length(records=120, kills=2, samples=1)
LONG = Length(records=4_000, kills=50, samples=10)


@dataclass(frozen=True)
class Busy:
    """Lanes that publish through the brokers in turn, and two named subscriptions at each; all keep their receipts."""

    brokers: Sequence[BrokerProcess]
    lanes: Sequence[Lane]
    readers: Sequence[Reader]
    failures: Failures
    progress: Progress

    @classmethod
    async def at(cls, brokers: Sequence[BrokerProcess], kept: Receipts) -> Busy:
        """On brokers that run."""
        failures, progress = Failures(WHILE_KILLED | WHILE_STORES_FAIL), Progress()
        publisher, subscriber = [await kept.of(brokers[0], name) for name in ("cyber-centre", "partner-cert")]
        lanes = [
            Lane(
                brokers[number % len(brokers)],
                name,
                batch=25,
                failures=failures,
                progress=progress,
                receipts=publisher,
            )
            for number, name in enumerate(LANES)
        ]
        readers = [
            Reader(broker, LANES, failures=failures, name=f"reader-{number}-{twin}", receipts=subscriber)
            for number, broker in enumerate(brokers)
            for twin in range(2)
        ]
        return cls(brokers, lanes, readers, failures, progress)

    async def run(self, length: Length) -> None:
        """Publish and read all, while a broker is killed as often as said, at moments that nobody chose."""
        count = len(self.lanes) * (length.records - 1)
        moments = sorted(random.sample(range(1, count), length.kills))
        async with asyncio.TaskGroup() as tasks:
            for reader in self.readers:
                tasks.create_task(reader.run(length.records))
            for reader in self.readers:
                await reader.opened.wait()
            publishing = [tasks.create_task(lane.run(length.records - 1)) for lane in self.lanes]
            for number, moment in enumerate(moments):
                await self.progress.reaches(moment)
                await asyncio.sleep(random.random() * LARGEST_DELAY_S)
                await self._kill(self.brokers[number % len(self.brokers)])
            await asyncio.wait(publishing)
            for lane in self.lanes:
                tasks.create_task(lane.run(length.records))

    async def _kill(self, broker: BrokerProcess) -> None:
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)


def audit(
    auditor: Auditor, directory: Path, kept: Receipts, witnesses: Sequence[Path], length: Length
) -> dict[str, Any]:
    """Everything that can be asked of the ledger, from an export: nothing is wrong with it. Some figures."""
    began = time.monotonic()
    export = auditor.exported(directory / "export")
    found = export.verified(*witnesses)
    assert (found["level"], found["findings"]) == ("verified", [])
    replayed = export.ask("replay")
    assert (replayed["findings"], replayed["not_replayed"]) == ([], [])
    assert replayed["agree"] == replayed["decisions"] > 0
    sound = export.finds_all_sound(kept.files)
    for _ in range(length.samples):
        record = f"{random.choice(LANES)}/{random.randrange(length.records)}"
        seen = export.ask("who-saw", SOURCE, record)
        assert seen["complete"] is True
        assert {each["agency"] for each in seen["sightings"]} == {"partner-cert"}
        assert any(each["acknowledged"] for each in seen["sightings"])
    return {
        "entries": found["entries"],
        "decisions": replayed["decisions"],
        "receipts": sound,
        "deliveries": received(kept.files),
        "audit_s": round(time.monotonic() - began),
    }


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witnessed.jsonl"


@pytest.mark.parametrize("length", at_length(SHORT, LONG))
@pytest.mark.parametrize("kafka", [False, pytest.param(True, marks=[pytest.mark.kafka, pytest.mark.soak])])
def test_every_kill_leaves_a_ledger_that_accounts_for_all_that_clients_saw(
    kafka: bool, witness: Path, tmp_path: Path, length: Length, request: pytest.FixtureRequest
) -> None:
    """In short on the embedded stores only: the test below is this one with two brokers on Kafka."""
    node = request.getfixturevalue("kafka_node").bootstrap if kafka else None
    broker = BrokerProcess(tmp_path / "exchange", kafka=node, limits=LIMITS)
    give_witness(broker, witness)
    broker.start()

    async def traffic() -> Busy:
        busy = await Busy.at([broker], kept)
        await busy.run(length)
        return busy

    began = time.monotonic()
    try:
        with receipts(tmp_path / "receipts") as kept:
            busy = asyncio.run(traffic())
    finally:
        code = broker.stop()
    took = time.monotonic() - began
    assert code == 0
    figures = audit(Auditor.of(broker), tmp_path, kept, [witness], length)
    streams = sum(reader.streams for reader in busy.readers)
    log.info(
        "%d kills, %d streams, %s, refusals %s, in %.0f s",
        length.kills,
        streams,
        figures,
        dict(busy.failures.seen),
        took,
    )
    assert streams > len(busy.readers)


@pytest.mark.kafka
@pytest.mark.parametrize("length", at_length(SHORT, LONG))
def test_two_brokers_killed_in_turn_and_one_that_was_replaced_while_it_was_stopped(
    kafka_node: KafkaNode, witness: Path, tmp_path: Path, length: Length
) -> None:
    first = BrokerProcess(tmp_path / "first", kafka=kafka_node.bootstrap, limits=LIMITS)
    second = BrokerProcess.beside(first, tmp_path / "second")
    newer = BrokerProcess.beside(first, tmp_path / "newer")
    other = tmp_path / "other.jsonl"
    for each, file, instance in (
        (first, witness, "broker"),
        (second, other, "second"),
        (newer, witness, "broker"),
    ):
        give_witness(each, file, instance=instance)
    try:
        first.start()
        second.start()

        async def traffic() -> None:
            await (await Busy.at([first, second], kept)).run(length)
            await replace(first, newer, await kept.of(second, "partner-cert"))

        with receipts(tmp_path / "receipts") as kept:
            asyncio.run(traffic())
    finally:
        for each in (first, second, newer):
            each.stop()
    log.info("%d kills: %s", length.kills, audit(Auditor.of(newer), tmp_path, kept, [witness, other], length))


async def replace(older: BrokerProcess, newer: BrokerProcess, kept: TopicReceipts) -> None:
    """Stop the older one in the middle of deliveries, start the newer one under its name, and let the older go on."""
    names = [*LANES, "paused"]
    failures, progress = Failures(WHILE_KILLED | WHILE_STORES_FAIL), Progress()
    reader = Reader(older, names, failures=failures, name="paused", receipts=kept)
    lane = Lane(older, "paused", batch=5, failures=failures, progress=progress)
    async with asyncio.TaskGroup() as tasks:
        reading, publishing = (tasks.create_task(each.run(1_000_000)) for each in (reader, lane))
        await progress.reaches(50)
        await asyncio.to_thread(older.signal, signal.SIGSTOP)
        await asyncio.to_thread(newer.start)
        async with newer.channel() as channel:
            results = await newer.publish(channel, [vulnerability("late", partition_key="late")])
        assert results[0].HasField("accepted")
        older.signal(signal.SIGCONT)
        assert await asyncio.to_thread(older.wait) == 1
        reading.cancel()
        publishing.cancel()
    assert "another broker has taken over the ledger" in older.log().splitlines()[-1]
