"""Suspensions on two instances over Kafka, under streams and a steady rate: nothing is released once the call has returned.

In short with every run of the tests, and at length with `make soak`: the same code.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.kafka.node import KafkaNode
from protos.entente.v1 import overlays_pb2 as pb
from protos.entente.v1.overlays_pb2_grpc import OverlaysStub
from tests.fault.test_activation import LIMITS, Lanes, Scene, Watcher, busy, quantile
from tests.services.broker import BrokerProcess
from tests.services.operator import Ends, operating
from tests.services.traffic import Failures

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

log = logging.getLogger(__name__)

CONSUMER = "partner-cert"
WHILE_SUSPENDED = frozenset({"SUSPENDED", ""})
"""Without a reason a write met the stream's end."""
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Length:
    """How many streams there are, and how often the consumer is suspended and let go on, by its owner and the exchange."""

    streams: int
    suspensions: int


LENGTHS = [
    pytest.param(Length(streams=4, suspensions=2), id="short"),
    pytest.param(
        Length(streams=100, suspensions=50), id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)]
    ),
]


@dataclass
class Changes:
    """What was suspended: where the ledgers ended when each call had returned, and when lifting it was asked for."""

    silent: list[tuple[Ends, Ends]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    confirmed_ms: list[int] = field(default_factory=list)


@asynccontextmanager
async def scene(kafka: KafkaNode, directory: Path, streams: int) -> AsyncIterator[Scene]:
    """Two instances, streams on both and a publisher; at the end everything that was published has come once."""
    first = BrokerProcess(directory / "first", kafka=kafka.bootstrap, limits=LIMITS)
    second = BrokerProcess.beside(first, directory / "second")
    try:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (first, second)))
        async with operating(kafka.bootstrap, first) as operator:
            made = Scene(first, second, operator, Lanes(first, 0.1, frozenset()), [], ())
            made.watchers = [
                Watcher((first, second)[number % 2], f"stream-{number}", Failures(WHILE_SUSPENDED))
                for number in range(streams)
            ]
            async with busy(made):
                yield made
            made.check_streams()
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (first, second)))


async def suspend_and_lift(made: Scene, context: str, changes: Changes) -> None:
    """Once, asked of the first instance; some records are published meanwhile."""
    async with made.first.channel() as channel:
        overlays, metadata = OverlaysStub(channel), made.first.metadata(context)
        request = pb.SuspendRequest(kind=pb.SUSPENSION_KIND_AGENCY, target=CONSUMER, reason="a test")
        begun_s = time.monotonic()
        done = await overlays.Suspend(request, metadata=metadata, timeout=TIMEOUT_S)
        changes.took_ms.append((time.monotonic() - begun_s) * 1000)
        changes.confirmed_ms.append(done.confirmation.took_ms)
        returned, before = await made.operator.ledger_ends(), sum(made.lanes.acknowledged.values())
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                if sum(made.lanes.acknowledged.values()) >= before + 4:
                    break
                await asyncio.sleep(0.02)
        changes.silent.append((returned, await made.operator.ledger_ends()))
        lift = pb.LiftRequest(id=done.suspension.id)
        lifted = await overlays.Lift(lift, metadata=metadata, timeout=TIMEOUT_S)
        changes.confirmed_ms.append(lifted.confirmation.took_ms)


async def check_silence(made: Scene, changes: Changes) -> None:
    """Between the return of each suspension and the call that lifts it nobody of the consumer was handed anything."""
    deliveries = await made.operator.entries("delivery")
    assert deliveries
    for returned, lifted in changes.silent:
        within = [
            each
            for each in deliveries
            if returned[each.partition] <= each.offset < lifted[each.partition] and each.entry.body["count"]
        ]
        assert within == []


@pytest.mark.parametrize("length", LENGTHS)
async def test_nothing_is_released_once_a_suspension_has_returned_and_nothing_is_lost_by_it(
    kafka_node: KafkaNode, tmp_path: Path, length: Length
) -> None:
    changes = Changes()
    async with scene(kafka_node, tmp_path, length.streams) as made:
        for number in range(length.suspensions):
            await suspend_and_lift(made, ("cyber-centre-admin", "admin-1")[number % 2], changes)
            await made.received(made.watchers)
        await check_silence(made, changes)
    took, confirmed = sorted(changes.took_ms), sorted(changes.confirmed_ms)
    line = (
        f"{length.streams} streams, {len(confirmed)} changes: until all had confirmed"
        f" p50 {quantile(confirmed, 0.5)} ms, p99 {quantile(confirmed, 0.99)} ms;"
        f" call to return p50 {quantile(took, 0.5):.0f} ms, p99 {quantile(took, 0.99):.0f} ms"
    )
    log.warning("%s", line)
