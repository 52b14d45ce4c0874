"""A real broker whose process, policy engine, disk or subscribers fail: nothing lost, nothing doubled, memory bounded."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from tests.fault.test_traffic import BACKENDS, at_length
from tests.services.broker import BrokerProcess, opening, reason, vulnerability

BATCH = 50


async def received(channel: grpc.aio.Channel, broker: BrokerProcess, count: int) -> AsyncIterator[str]:
    """The ids of `count` delivered records."""
    stub = exchange_pb2_grpc.ExchangeStub(channel)
    call = stub.Subscribe(metadata=broker.metadata("partner-cert"))
    await call.write(opening(records=count, size_bytes=256 << 20))
    left = count
    async for response in call:
        for delivery in response.batch.deliveries:
            yield delivery.record.id
            left -= 1
        if not left:
            break
    call.cancel()


async def ids(broker: BrokerProcess, count: int) -> list[str]:
    async with broker.channel() as channel, asyncio.timeout(60):
        return [record_id async for record_id in received(channel, broker, count)]


async def publish_until_killed(broker: BrokerProcess, records: int, kill_at: int) -> set[str]:
    """Publishes so many in four calls at once; kills the broker once `kill_at` records are acknowledged. Those ids."""
    acknowledged: set[str] = set()
    killed = asyncio.Event()

    async def publish(channel: grpc.aio.Channel, first: int) -> None:
        for begin in range(first, records, 4 * BATCH):
            batch = [vulnerability(str(number)) for number in range(begin, begin + BATCH)]
            try:
                results = await broker.publish(channel, batch)
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL), error
                return
            pairs = zip(batch, results, strict=True)
            acknowledged.update(event.id for event, result in pairs if result.HasField("accepted"))
            if len(acknowledged) >= kill_at:
                killed.set()

    async with broker.channel() as channel:
        calls = [asyncio.create_task(publish(channel, n * BATCH)) for n in range(4)]
        await killed.wait()
        await asyncio.to_thread(broker.kill)
        await asyncio.gather(*calls)
    return acknowledged


@pytest.mark.parametrize("records", at_length(3_000, 10_000))
@pytest.mark.parametrize("broker", BACKENDS, indirect=True)
async def test_records_acknowledged_before_a_kill_are_there_once(broker: BrokerProcess, records: int) -> None:
    acknowledged = await publish_until_killed(broker, records, random.randrange(BATCH, records - 8 * BATCH))
    broker.start()
    async with broker.channel() as channel:
        # What was stored but not acknowledged comes back as a duplicate: publishing all again completes the set.
        for begin in range(0, records, 500):
            batch = [vulnerability(str(number)) for number in range(begin, begin + 500)]
            results = await broker.publish(channel, batch)
            for event, result in zip(batch, results, strict=True):
                assert result.HasField("accepted"), result
                assert result.accepted.duplicate or event.id not in acknowledged
    counted = Counter(await ids(broker, records))
    assert counted == Counter({str(number): 1 for number in range(records)})


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
async def test_delivery_stalls_without_opa_and_resumes_without_a_gap(
    broker: BrokerProcess, fault: signal.Signals
) -> None:
    """The subscription is decided anew after the engine is gone; a new principal's question cannot be in the memo."""
    async with broker.channel() as channel, asyncio.timeout(60):
        await broker.publish(channel, [vulnerability(str(number)) for number in range(100)])
        stub = exchange_pb2_grpc.ExchangeStub(channel)
        call = stub.Subscribe(metadata=broker.metadata("partner-cert"))
        await call.write(opening(records=0))
        assert (await call.read()).HasField("opened")
        (opa,) = broker.children()
        os.kill(opa, fault)
        credit = exchange_pb2.Credit(records=100, bytes=64 << 20)
        await call.write(exchange_pb2.SubscribeRequest(credit=credit))
        got: list[str] = []
        while len(got) < 100:
            response = await call.read()
            got += [delivery.record.id for delivery in response.batch.deliveries]
        call.cancel()
    assert sorted(got, key=int) == [str(number) for number in range(100)]


async def test_a_full_disk_refuses_and_forgets_nothing(broker: BrokerProcess) -> None:
    stored: list[str] = []
    refused = ""
    async with broker.channel() as channel, asyncio.timeout(90):
        largest = max(file.stat().st_size for file in (broker.directory / "data").iterdir())
        broker.limit_files(largest + (2 << 20))
        for number in range(1_000):
            batch = [vulnerability(f"{number}-{part}", filler_bytes=20_000) for part in range(20)]
            try:
                await broker.publish(channel, batch)
            except grpc.aio.AioRpcError as error:
                refused = reason(error)
                break
            stored += [event.id for event in batch]
        assert refused in {"STORAGE_FULL", "STORAGE_UNAVAILABLE", "LEDGER_UNAVAILABLE"}
        broker.limit_files(1 << 40)
        results = await broker.publish(channel, batch)
        assert all(result.HasField("accepted") for result in results)
        stored += [event.id for event in batch]
    assert Counter(await ids(broker, len(stored))) == Counter(stored)


async def test_a_subscriber_that_stops_reading_costs_a_bounded_buffer(tmp_path: Path) -> None:
    limits = {"stream_buffer_bytes": 1 << 20, "slow_consumer_s": 2.0}
    broker = BrokerProcess(tmp_path / "exchange", limits=limits)
    broker.start()
    try:
        async with broker.channel() as channel, asyncio.timeout(90):
            before = broker.resident_bytes()
            stub = exchange_pb2_grpc.ExchangeStub(channel)
            stalled = [stub.Subscribe(metadata=broker.metadata("partner-cert")) for _ in range(8)]
            for call in stalled:
                await call.write(opening(records=100_000, size_bytes=256 << 20))
            for first in range(0, 4_000, 100):
                batch = [vulnerability(str(first + n), filler_bytes=20_000) for n in range(100)]
                await broker.publish(channel, batch)
            # 80 MB each were granted to eight streams that take nothing; caches hold 128 MiB at the most.
            assert broker.resident_bytes() - before < 320 << 20
            assert len(await ids(broker, 4_000)) == 4_000
            for call in stalled:
                assert await _reason_of_end(call) == "CONSUMER_TOO_SLOW"
    finally:
        broker.stop()


async def _reason_of_end(call: grpc.aio.StreamStreamCall[object, object]) -> str:
    """How a stream that is read at last ends."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return "OK"


async def test_sigterm_drains_and_exits_with_zero(broker: BrokerProcess) -> None:
    async with broker.channel() as channel, asyncio.timeout(30):
        stub = exchange_pb2_grpc.ExchangeStub(channel)
        call = stub.Subscribe(metadata=broker.metadata("partner-cert"))
        await call.write(opening(records=10))
        assert (await call.read()).HasField("opened")
        stopping = asyncio.create_task(asyncio.to_thread(broker.stop))
        assert (await call.read()).HasField("draining")
        await call.done_writing()
        call.cancel()
        assert await stopping == 0
