"""A ledger that cannot be written and an engine that does not answer, while streams are open: a pause, never a gap."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest

from protos.entente.v1.exchange_pb2 import START_POSITION_LATEST, Credit
from tests.fault.streams import stream
from tests.integration.exchange.live import Stream
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts
from tests.services.broker import BrokerProcess, reason, vulnerability
from tests.services.ledger_file import ledger_entries

LIMITS = {"heartbeat_s": 0.1, "drain_s": 0.0}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """On a rulebook with a topic of two owners; its tests leave it running."""
    root = tmp_path_factory.mktemp("stalls")
    process = BrokerProcess(root / "exchange", limits=LIMITS, rulebook=with_alerts(root / "rulebook"))
    process.start()
    yield process
    process.stop()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the write lock, as a careless backup might."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def released(broker: BrokerProcess) -> int:
    """How many deliveries the ledger accounts for."""
    entries = ledger_entries(broker.directory, "delivery")
    return sum(cast(int, entry.body["count"]) for entry in entries)


async def quiet(opened: Stream) -> None:
    """Five heartbeats, and nothing else."""
    messages = await opened.beats(5)
    assert {message.WhichOneof("message") for message in messages} == {"heartbeat"}


async def test_nothing_is_released_while_the_ledger_cannot_be_written(broker: BrokerProcess) -> None:
    ids = [str(number) for number in range(100)]
    records = [vulnerability(each, partition_key="k") for each in ids]
    async with broker.channel() as channel, stream(broker, credit=Credit()) as opened:
        await opened.opened()
        await broker.publish(channel, records)
        with locked(broker.directory / "data" / "ledger.db"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await broker.publish(channel, [vulnerability("unaccounted", partition_key="k")])
            assert reason(refused.value) == "LEDGER_UNAVAILABLE"
            await opened.send(credit=Credit(records=100))
            await quiet(opened)
        assert await opened.ids(100) == ids
        # What was stored without an account is acknowledged now, and delivered once.
        (again,) = await broker.publish(channel, [vulnerability("unaccounted", partition_key="k")])
        assert again.accepted.duplicate
        await opened.send(credit=Credit(records=100))
        assert await opened.ids(1) == ["unaccounted"]
    assert released(broker) == 101


async def test_a_stalled_engine_holds_up_only_what_it_has_not_decided(broker: BrokerProcess) -> None:
    """Records of two owners in turn; one owner's are decided already, the other's carry labels that are new."""
    async with stream(broker, "ems", **of_alerts(2)) as opened:
        await publish(broker, "warm", "green", "green")
        assert sorted(await opened.ids(2)) == ["hp-warm-0", "tr-warm-0"]
        # Ended for certain: a stream that is still there would ask about what comes next.
        await opened.half_close()
        await opened.rest()
    async with stream(broker, "ems", **of_alerts(0)) as opened:
        await opened.opened()
        await publish(broker, "mixed", "green", "amber", count=5)
        with stalled(broker):
            await opened.send(credit=Credit(records=10))
            batch = await opened.next("batch")
            first = [delivery.record.id for delivery in batch.deliveries]
            first += await opened.ids(5 - len(first))
            assert first == [f"hp-mixed-{number}" for number in range(5)]
            await quiet(opened)
        assert await opened.ids(5) == [f"tr-mixed-{number}" for number in range(5)]
    # Whoever lost the connection meanwhile goes on with what was held up.
    async with stream(broker, "ems", **of_alerts(10, cursor=batch.cursor)) as resumed:
        missing = [f"tr-mixed-{number}" for number in range(5)]
        while missing:
            for delivery in (await resumed.next("batch")).deliveries:
                if delivery.record.id.startswith("tr-"):
                    assert delivery.record.id == missing.pop(0)


async def test_a_stalled_engine_skips_no_owners_record(broker: BrokerProcess) -> None:
    async with stream(broker, "ems", **of_alerts(0)) as opened:
        await opened.opened()
        await publish(broker, "new", "clear", "amber", count=5)
        with stalled(broker):
            await opened.send(credit=Credit(records=10))
            await quiet(opened)
        found = await opened.ids(10)
    for owner in ("hp", "tr"):
        mine = [each for each in found if each.startswith(owner)]
        assert mine == [f"{owner}-new-{number}" for number in range(5)]


def of_alerts(records: int, **more: object) -> dict[str, object]:
    """What a stream of the alerts is opened with; from now on, unless told."""
    start = {} if "cursor" in more else {"position": START_POSITION_LATEST}
    fixed = {"topic": ALERTS, "purpose": "emergency-response", "credit": Credit(records=records)}
    return {**fixed, **start, **more}


@contextmanager
def stalled(broker: BrokerProcess) -> Iterator[None]:
    """OPA is stopped: it keeps its socket and answers nothing."""
    (opa,) = broker.children()
    os.kill(opa, signal.SIGSTOP)
    try:
        # The signal stops nothing before one of the threads has been given a processor.
        while not has_stopped(opa):
            time.sleep(0.001)
        yield
    finally:
        os.kill(opa, signal.SIGCONT)


def has_stopped(pid: int) -> bool:
    """Whether all threads are in state T (proc_pid_stat(5))."""
    states = [
        stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


async def publish(broker: BrokerProcess, name: str, patrol: str, transport: str, *, count: int = 1) -> None:
    """So many alerts of both owners in turn, with these classifications."""
    async with broker.channel() as channel:
        for number in range(count):
            for prefix, agency, label in (("hp", "highway-patrol", patrol), ("tr", "transport", transport)):
                record = alert(agency, f"{name} {number}", label, id=f"{prefix}-{name}-{number}")
                (result,) = await broker.publish(channel, [record], topic=ALERTS, context=agency)
                assert result.HasField("accepted"), result
