"""A ledger that was put back to an earlier state, under a clock that was set, in two time zones, on a full disk."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.clock import SystemClock
from broker.app import server
from deploy.kafka.node import KafkaNode
from protos.entente.v1.exchange_pb2 import Credit, SubscribeResponse
from tests.fault.streams import stream
from tests.services.broker import ENTENTE, BrokerProcess, vulnerability
from tests.services.evidence import Auditor, give_witness, receipts
from tests.services.kafka_topics import copy_topic
from tests.services.ledger_file import ledger_entries

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]

LIMITS = {"heartbeat_s": 0.2, "drain_s": 0.0}
SOURCE = "//cyber-centre/test"


async def publish(broker: BrokerProcess, *ids: str) -> None:
    async with broker.channel() as channel:
        results = await broker.publish(channel, [vulnerability(each, partition_key="k") for each in ids])
    assert all(result.HasField("accepted") for result in results)


async def lived_on(broker: BrokerProcess, back_up: Callable[[], object]) -> None:
    """Some life, a backup, and more life; the broker is stopped at the end."""
    broker.start()
    await publish(broker, "1")
    assert broker.stop() == 0
    await asyncio.to_thread(back_up)
    broker.start()
    await publish(broker, "2")
    assert broker.stop() == 0


def refused_start(broker: BrokerProcess) -> str:
    """What the broker says that must not start."""
    command = [str(ENTENTE), "serve", "--config", str(broker.file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stderr
    return ran.stderr.splitlines()[-1]


def check_rolled_back(broker: BrokerProcess, witness: Path) -> None:
    """The broker does not start on it, and an auditor finds it, though in itself it is whole."""
    assert "archive: " in (said := refused_start(broker)) and "rolled back" in said
    auditor = Auditor.of(broker)
    assert auditor.verified()["level"] == "internally consistent only"
    found = auditor.verified(witness, code=7)
    assert found["level"] == "faulty"
    assert found["first_fault"]["instance"] == "broker"


async def test_an_old_backup_is_found(tmp_path: Path) -> None:
    broker, witness = BrokerProcess(tmp_path / "exchange", limits=LIMITS), tmp_path / "witnessed.jsonl"
    give_witness(broker, witness)
    data, backup, newest = (tmp_path / name for name in ("exchange/data", "backup", "newest"))
    try:
        await lived_on(broker, lambda: shutil.copytree(data, backup))
        await asyncio.to_thread(shutil.move, data, newest)
        await asyncio.to_thread(shutil.copytree, backup, data)
        await asyncio.to_thread(check_rolled_back, broker, witness)
        await asyncio.to_thread(shutil.rmtree, data)
        await asyncio.to_thread(shutil.move, newest, data)
        assert (await asyncio.to_thread(Auditor.of(broker).verified, witness))["level"] == "verified"
    finally:
        broker.stop()


@pytest.mark.kafka
async def test_an_old_copy_of_the_ledger_on_another_kafka_is_found(
    kafka_node: KafkaNode, tmp_path: Path
) -> None:
    broker = BrokerProcess(tmp_path / "exchange", kafka=kafka_node.bootstrap, limits=LIMITS)
    witness = tmp_path / "witnessed.jsonl"
    give_witness(broker, witness)
    prefix = broker.kafka_prefix

    def back_up() -> None:
        for name, partitions in (("ledger", 16), ("ledger-checkpoints", 1), ("control", 1), ("rulebooks", 1)):
            copy_topic(kafka_node.bootstrap, f"{prefix}.{name}", f"{prefix}-old.{name}", partitions)

    try:
        await lived_on(broker, back_up)
        broker.restore_from(f"{prefix}-old")
        await asyncio.to_thread(check_rolled_back, broker, witness)
    finally:
        broker.stop()


async def test_a_broker_and_an_auditor_in_other_time_zones_tell_the_same_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    broker, witness = BrokerProcess(tmp_path / "exchange", limits=LIMITS), tmp_path / "witnessed.jsonl"
    give_witness(broker, witness)
    broker.start()
    try:
        await publish(broker, "1")
        async with stream(broker, subscription="intake") as opened:
            assert await opened.ids(1) == ["1"]
    finally:
        broker.stop()
    here = replace(Auditor.of(broker), time_zone="UTC")
    there = replace(here, time_zone="America/New_York")
    answers = [
        [
            await asyncio.to_thread(auditor.ask, "who-saw", SOURCE, "1"),
            await asyncio.to_thread(auditor.ask, "what-saw", "partner-cert"),
        ]
        for auditor in (here, there)
    ]
    assert answers[0] == answers[1]
    assert (await asyncio.to_thread(there.verified, witness))["level"] == "verified"
    (sighting,) = answers[0][0]["sightings"]
    now = int(SystemClock().now_ms() / 1000)
    written = {entry.time_ms // 1000 for entry in ledger_entries(broker.directory, "delivery")}
    assert all(now - 3_000 < second <= now for second in written)
    assert sighting["time"].endswith("Z")


async def test_a_full_disk_stalls_delivery_and_leaves_a_sound_ledger(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "exchange", limits=LIMITS)
    witness = tmp_path / "witnessed.jsonl"
    give_witness(broker, witness)
    broker.start()
    ids = [str(number) for number in range(20)]
    try:
        await publish(broker, *ids)
        with receipts(tmp_path / "receipts") as kept:
            file = await kept.of(broker, "partner-cert")
            async with stream(broker, subscription="intake", credit=Credit()) as opened:
                await opened.opened()
                broker.limit_files(1)  # nothing can be written any more, and all can still be read
                await opened.send(credit=Credit(records=100, bytes=1 << 20))
                beats = len(heartbeats(opened.seen))
                while len(heartbeats(opened.seen)) < beats + 5:
                    await opened.next("heartbeat")
                assert not [each for each in opened.seen if each.HasField("batch")]
                broker.limit_files(1 << 40)
                assert await opened.ids(len(ids)) == ids
                for each in opened.seen:
                    if each.HasField("batch"):
                        file.add_batch(each.batch)
        assert broker.stop() == 0
        found = await asyncio.to_thread(Auditor.of(broker).verified, witness)
        assert (found["level"], found["findings"]) == ("verified", [])
        assert await asyncio.to_thread(Auditor.of(broker).finds_all_sound, kept.files) >= 1
    finally:
        broker.stop()


def heartbeats(seen: Sequence[SubscribeResponse]) -> list[SubscribeResponse]:
    return [each for each in seen if each.HasField("heartbeat")]


class SetClock(SystemClock):
    """The system's clock as it would be after somebody set it."""

    offset_ms = 0

    def now_ms(self) -> int:
        """Shifted by all brokers' common offset, which may go back."""
        return super().now_ms() + SetClock.offset_ms


async def test_a_ledger_over_which_the_clock_was_set_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a broker's life it is an entry; from one life to the next the entries' order is that of their indexes."""
    broker, witness = BrokerProcess(tmp_path / "exchange", limits=LIMITS), tmp_path / "witnessed.jsonl"
    give_witness(broker, witness)
    monkeypatch.setattr(server, "SystemClock", SetClock)
    steps = []
    for begin_ms, end_ms in ((0, 3_600_000), (-86_400_000, -90_000_000)):
        monkeypatch.setattr(SetClock, "offset_ms", begin_ms)
        async with asyncio.timeout(60), server.running(broker.config):
            monkeypatch.setattr(SetClock, "offset_ms", end_ms)
            steps.append(end_ms - begin_ms)
            while len(ledger_entries(broker.directory, "clock_step")) < len(steps):  # noqa: ASYNC110 -- of the broker's task
                await asyncio.sleep(0.1)
    told: list[Any] = [entry.body["step"] for entry in ledger_entries(broker.directory, "clock_step")]
    assert all(
        abs(step["found_ms"] - step["expected_ms"] - by) < 30_000
        for step, by in zip(told, steps, strict=True)
    )
    times = [entry.time_ms for entry in ledger_entries(broker.directory)]
    assert times != sorted(times)
    found = await asyncio.to_thread(Auditor.of(broker).verified, witness)
    assert (found["level"], [each for each in found["findings"] if each["severity"] == "fault"]) == (
        "verified",
        [],
    )
