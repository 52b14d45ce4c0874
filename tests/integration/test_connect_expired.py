"""Sinks whose place on a real exchange is past retention: one says so and waits, one goes on with what is left, as told."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from broker.adapters.sqlite.record_log import SqliteRecordLog
from connectors.runtime.model import Offset, State
from tests.integration.test_connect_files import MADE, connectors, exchange, kept, put
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess

__all__ = ["exchange"]
pytestmark = [pytest.mark.opa, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

SINKS = ("fails", "goes-on")
PART = 20


@asynccontextmanager
async def connected(exchange: BrokerProcess, root: Path) -> AsyncIterator[ConnectProcess]:
    """The source, and two sinks that differ in what they do about records that are gone."""
    (root / "outgoing").mkdir()
    tables = connectors(exchange, root)
    sink = tables.pop("in") | {"format": "json"}
    del sink["segment_records"]
    for name, chosen in zip(SINKS, ("fail", "earliest"), strict=True):
        (root / name / "incoming").mkdir(parents=True)
        tables[name] = sink | {"directory": str(root / name / "incoming"), "on_expired": chosen}
    process = ConnectProcess(root / "connect", tables)
    process.start()
    try:
        yield process
    finally:
        process.stop()


async def drop_all(exchange: BrokerProcess) -> None:
    """What retention does, at once; while the broker does not run."""
    data = exchange.directory / "data"
    with closing(sqlite3.connect(data / "records.db")) as connection, connection:
        connection.execute("UPDATE topics SET retention_s = 1 WHERE name = 'vulnerabilities'")
    log = await SqliteRecordLog.open(data)
    try:
        assert await log.enforce_retention(int((time.time() + 3_600) * 1000)) > PART
    finally:
        await log.close()


def entitled(part: int) -> set[int]:
    """The numbers of a part's records that the sinks are to have."""
    records = MADE.records(part * PART, PART)
    return {record.number for record in records if record.entitled is not None}


async def send(connect: ConnectProcess, root: Path, part: int) -> None:
    put(root / "outgoing" / f"part-{part}.jsonl", part * PART, PART)
    done = root / "outgoing" / "done" / f"part-{part}.jsonl"
    await connect.until("out", lambda _: done.exists())


async def test_a_place_past_retention(tmp_path: Path, exchange: BrokerProcess) -> None:
    async with connected(exchange, tmp_path) as connect:
        await send(connect, tmp_path, 0)
        for name in SINKS:
            await connect.until(name, lambda _, name=name: kept(tmp_path / name).keys() == entitled(0))
        async with connect.control() as control:
            for name in SINKS:
                await control.stop(name)
        await send(connect, tmp_path, 1)
        exchange.stop()
        await drop_all(exchange)
        exchange.start()
        async with connect.control() as control:
            for name in SINKS:
                await control.resume(name)
        failed = await connect.until("fails", lambda one: "POSITION_EXPIRED" in (one.cause or ""))
        assert failed.state is State.FAILED
        assert failed.tasks[0].retry_at_s is None
        assert 'on_expired = "earliest"' in (failed.cause or "")
        await send(connect, tmp_path, 2)
        await connect.until(
            "goes-on", lambda _: kept(tmp_path / "goes-on").keys() == entitled(0) | entitled(2)
        )
        assert kept(tmp_path / "fails").keys() == entitled(0)
        async with connect.control() as control:
            await control.stop("fails")
            (offset,) = await control.offsets("fails")
            await control.alter_offsets("fails", [Offset(offset.partition, {"from": "earliest"})])
            await control.resume("fails")
        await connect.until("fails", lambda _: kept(tmp_path / "fails").keys() == entitled(0) | entitled(2))
        healthy = await connect.until("fails", lambda one: one.state is State.RUNNING)
        assert healthy.cause is None
