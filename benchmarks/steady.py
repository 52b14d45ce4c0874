"""Records at a steady rate to open streams, and how long each takes from the call of Publish to its arrival.

Publisher and subscribers are a process of their own: whoever measures shares no interpreter with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from tests.services.broker import BrokerProcess, opening, vulnerability
from tests.services.kafka import running_node
from tests.services.traffic import Failures

EVERY_S = 0.02
"""Between two calls of Publish, of one record each."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LANE = "steady"
_LIMITS = {"publish_records_per_s": 1_000_000, "drain_s": 0.0}
_WARM_RECORDS = 20
_WINDOW_RECORDS = 1_000_000
_AGAIN_S = 1.0
"""About how long a subscriber that is suspended waits before it asks again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the subscribers saw in some time: delays_ms of what was published then, and when anything arrived last."""

    delays_ms: list[float]
    newest_s: float
    open: int


@dataclass(slots=True)
class _Traffic:
    """In its process: one publisher, at the first broker, and streams on all of them in turn.

    Times are of CLOCK_MONOTONIC, in seconds.
    """

    brokers: Sequence[BrokerProcess]
    every_s: float
    open: int = 0
    called_s: list[float] = field(default_factory=list)
    came_s: list[tuple[int, float]] = field(default_factory=list)

    async def run(self, count: int, pipe: Connection) -> None:
        """Say so when records come, and answer questions until the process is ended."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish(self.brokers[0]))
            for number in range(count):
                tasks.create_task(self._follow(self.brokers[number % len(self.brokers)], f"steady-{number}"))
            while len(self.came_s) < _WARM_RECORDS * count:  # noqa: ASYNC110 - a plain count
                await asyncio.sleep(0.05)
            pipe.send(None)
            while True:
                begin_s, end_s = await asyncio.to_thread(pipe.recv)
                pipe.send(self._seen(begin_s, end_s))

    def _seen(self, begin_s: float, end_s: float) -> Seen:
        called = ((self.called_s[number], came_s) for number, came_s in self.came_s)
        delays_ms = [(came_s - called_s) * 1000 for called_s, came_s in called if begin_s <= called_s < end_s]
        return Seen(delays_ms, self.came_s[-1][1], self.open)

    async def _publish(self, broker: BrokerProcess) -> None:
        """Calls begin at their times, whether or not those before have returned."""
        async with broker.channel() as channel, asyncio.TaskGroup() as sent:
            due_s = time.monotonic()
            while True:
                record = vulnerability(f"{_LANE}/{len(self.called_s)}")
                self.called_s.append(time.monotonic())
                sent.create_task(broker.publish(channel, [record]))
                due_s += self.every_s
                await asyncio.sleep(due_s - time.monotonic())

    async def _follow(self, broker: BrokerProcess, name: str) -> None:
        """A named subscription; while it is suspended it keeps its connection, and asks again now and then."""
        failures = Failures({"SUSPENDED", ""})
        async with broker.channel() as channel:
            while True:
                try:
                    await self._stream(broker, channel, name)
                except grpc.aio.AioRpcError as error:
                    await failures.note(error)
                await asyncio.sleep(_AGAIN_S * random.uniform(0.5, 1.5))

    async def _stream(self, broker: BrokerProcess, channel: grpc.aio.Channel, name: str) -> None:
        call = exchange_pb2_grpc.ExchangeStub(channel).Subscribe(metadata=broker.metadata("partner-cert"))
        await call.write(opening(records=_WINDOW_RECORDS, name=name))
        is_open = False
        try:
            async for response in call:
                if response.HasField("opened"):
                    self.open, is_open = self.open + 1, True
                elif response.HasField("batch"):
                    self._note(response.batch)
                    await _answer(call, response.batch)
        finally:
            self.open -= is_open

    def _note(self, batch: exchange_pb2.Batch) -> None:
        now_s = time.monotonic()
        for delivery in batch.deliveries:
            lane, _, number = delivery.record.id.partition("/")
            if lane == _LANE:  # the others are notices of withdrawals
                self.came_s.append((int(number), now_s))


async def _answer(
    call: grpc.aio.StreamStreamCall[exchange_pb2.SubscribeRequest, exchange_pb2.SubscribeResponse],
    batch: exchange_pb2.Batch,
) -> None:
    """Credit, and the acknowledgement; nothing for a stream that has ended meanwhile, which reading on tells."""
    credit = exchange_pb2.Credit(records=len(batch.deliveries), bytes=batch.ByteSize())
    with contextlib.suppress(asyncio.InvalidStateError):
        await call.write(exchange_pb2.SubscribeRequest(credit=credit))
        await call.write(exchange_pb2.SubscribeRequest(ack=exchange_pb2.Ack(cursor=batch.cursor)))


@dataclass(frozen=True, slots=True)
class SteadyStreams:
    """Traffic that runs; asked from another process."""

    brokers: Sequence[BrokerProcess]
    pipe: Connection

    async def seen(self, begin_s: float = 0.0, end_s: float = 0.0) -> Seen:
        """Of what was published within this time (CLOCK_MONOTONIC, seconds)."""
        self.pipe.send((begin_s, end_s))
        seen: Seen = await asyncio.to_thread(self.pipe.recv)
        return seen

    def processor_s(self) -> float:
        """What the brokers have used so far, without their engines."""
        return sum(_ticks(broker.pid) for broker in self.brokers) / _TICKS_PER_S


@asynccontextmanager
async def steady_streams(
    brokers: Sequence[BrokerProcess], count: int, every_s: float = EVERY_S
) -> AsyncIterator[SteadyStreams]:
    """So many streams inside the block, which begins when records come; raises EOFError if the traffic ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    directories = [broker.directory for broker in brokers]
    traffic = context.Process(target=_run, args=(directories, count, every_s, theirs), daemon=True)
    traffic.start()
    theirs.close()
    try:
        await asyncio.to_thread(ours.recv)
        yield SteadyStreams(brokers, ours)
    finally:
        traffic.terminate()
        traffic.join()


def _run(directories: Sequence[Path], count: int, every_s: float, pipe: Connection) -> None:
    asyncio.run(_Traffic([BrokerProcess(each) for each in directories], every_s).run(count, pipe))


def _ticks(pid: int) -> int:
    """What the process has used, itself and in the kernel: proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@asynccontextmanager
async def two_brokers(directory: Path) -> AsyncIterator[tuple[str, tuple[BrokerProcess, BrokerProcess]]]:
    """Kafka's address, and two brokers of one exchange that run inside the block."""
    with ExitStack() as stack:
        node = stack.enter_context(running_node(directory / "kafka"))
        first = BrokerProcess(directory / "first", kafka=node.bootstrap, limits=_LIMITS)
        second = BrokerProcess.beside(first, directory / "second")
        for broker in (first, second):
            stack.callback(broker.stop)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (first, second)))
        yield node.bootstrap, (first, second)
