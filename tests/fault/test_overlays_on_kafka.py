"""Suspensions on two instances over Kafka, under streams and a steady rate: nothing is released once the call has returned.

In short with every run of the tests, and at length with `make soak`: the same code. How long a call takes is for
`benchmarks.overlays` to measure: here publisher, subscribers and caller share one process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.kafka.node import KafkaNode
from protos.entente.v1 import overlays_pb2 as pb
from protos.entente.v1.exchange_pb2 import Batch
from protos.entente.v1.overlays_pb2_grpc import OverlaysStub
from tests.fault.test_activation import BATCH, LANES, LIMITS, Lanes, Scene, Watcher, busy, quantile
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
    """How many streams there are, and how often the consumer is suspended and let go on, by its owner and the exchange.

    pause_s: between two batches of a publisher. again_s: about how long a subscriber that is suspended waits before it asks
    again.
    """

    streams: int
    suspensions: int
    pause_s: float
    again_s: float


SHORT = Length(streams=4, suspensions=2, pause_s=0.1, again_s=0.1)
LONG = Length(streams=100, suspensions=50, pause_s=0.4, again_s=1.0)
LENGTHS = [
    pytest.param(SHORT, id="short"),
    pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)]),
]


class Subscriber(Watcher):
    """Keeps its connection while it is suspended, and asks again now and then, as partners' clients do.

    first_s: when each record came for the first time (CLOCK_MONOTONIC).
    """

    def __init__(self, broker: BrokerProcess, name: str, *, again_s: float) -> None:
        super().__init__(broker, name, Failures(WHILE_SUSPENDED))
        self.first_s: dict[str, float] = {}
        self._again_s = again_s

    async def _failed(self, error: grpc.aio.AioRpcError) -> None:
        await super()._failed(error)
        await asyncio.sleep(self._again_s)

    async def _take(self, call: Any, batch: Batch, following: dict[str, int], sent: Any) -> None:
        now_s = time.monotonic()
        for delivery in batch.deliveries:
            self.first_s.setdefault(delivery.record.id, now_s)
        await super()._take(call, batch, following, sent)


def subscribers(brokers: Sequence[BrokerProcess], length: Length) -> list[Subscriber]:
    """In turn of all brokers; they wait from half as long to one and a half times as long before they ask again."""
    return [
        Subscriber(
            brokers[number % len(brokers)],
            f"stream-{number}",
            again_s=length.again_s * (0.5 + number / length.streams),
        )
        for number in range(length.streams)
    ]


@dataclass(frozen=True)
class Suspended:
    """One suspension: where the ledgers ended when the call had returned, and when lifting it was asked for.

    published: what was acknowledged of each lane at these times. lifting_s: the second of them (CLOCK_MONOTONIC).
    """

    ends: tuple[Ends, Ends]
    published: tuple[dict[str, int], dict[str, int]]
    lifting_s: float


@dataclass
class Changes:
    """confirmed_ms: from when an event was written until all instances had confirmed it."""

    suspended: list[Suspended] = field(default_factory=list)
    confirmed_ms: list[int] = field(default_factory=list)


@asynccontextmanager
async def scene(kafka: KafkaNode, directory: Path, length: Length) -> AsyncIterator[Scene]:
    """Two instances, streams on both and a publisher; at the end everything that was published has come once."""
    first = BrokerProcess(directory / "first", kafka=kafka.bootstrap, limits=LIMITS)
    second = BrokerProcess.beside(first, directory / "second")
    try:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (first, second)))
        async with operating(kafka.bootstrap, first) as operator:
            made = Scene(first, second, operator, Lanes(first, length.pause_s, frozenset()), [], ())
            made.watchers = subscribers((first, second), length)
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
        done = await overlays.Suspend(request, metadata=metadata, timeout=TIMEOUT_S)
        changes.confirmed_ms.append(done.confirmation.took_ms)
        published = dict(made.lanes.acknowledged)
        returned, before = await made.operator.ledger_ends(), sum(published.values())
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                if sum(made.lanes.acknowledged.values()) >= before + 2 * len(LANES) * BATCH:
                    break
                await asyncio.sleep(0.02)
        ends, acknowledged = (returned, await made.operator.ledger_ends()), dict(made.lanes.acknowledged)
        changes.suspended.append(Suspended(ends, (published, acknowledged), time.monotonic()))
        lift = pb.LiftRequest(id=done.suspension.id)
        lifted = await overlays.Lift(lift, metadata=metadata, timeout=TIMEOUT_S)
        changes.confirmed_ms.append(lifted.confirmation.took_ms)


async def check_silence(made: Scene, changes: Changes) -> None:
    """Between the return of each suspension and the call that lifts it nobody of the consumer was handed anything."""
    deliveries = await made.operator.entries("delivery")
    assert deliveries
    for returned, lifted in (each.ends for each in changes.suspended):
        within = [
            each
            for each in deliveries
            if returned[each.partition] <= each.offset < lifted[each.partition] and each.entry.body["count"]
        ]
        assert within == []


def check_arrivals(watchers: Sequence[Subscriber], changes: Changes) -> None:
    """What was published in between came to nobody before the call that lifts it."""
    assert watchers
    for each in changes.suspended:
        begin, end = each.published
        # The batch that was on its way at the return may have been handed out before.
        held = [f"{lane}/{number}" for lane in LANES for number in range(begin[lane] + BATCH, end[lane])]
        assert held
        for watcher in watchers:
            early = [record for record in held if watcher.first_s[record] < each.lifting_s]
            assert early == [], watcher.name


@pytest.mark.parametrize("length", LENGTHS)
async def test_nothing_is_released_once_a_suspension_has_returned_and_nothing_is_lost_by_it(
    kafka_node: KafkaNode, tmp_path: Path, length: Length
) -> None:
    changes = Changes()
    async with scene(kafka_node, tmp_path, length) as made:
        for number in range(length.suspensions):
            await suspend_and_lift(made, ("cyber-centre-admin", "admin-1")[number % 2], changes)
            await made.received(made.watchers)
        await check_silence(made, changes)
    check_arrivals([each for each in made.watchers if isinstance(each, Subscriber)], changes)
    confirmed = sorted(changes.confirmed_ms)
    line = (
        f"{length.streams} streams, {len(confirmed)} changes: until all had confirmed"
        f" p50 {quantile(confirmed, 0.5)} ms, p99 {quantile(confirmed, 0.99)} ms"
    )
    log.warning("%s", line)
