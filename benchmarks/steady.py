"""Records at a steady rate to open streams, and how long each takes from the call of Publish to its arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from tests.services.broker import BrokerProcess, opening, vulnerability

EVERY_S = 0.02
"""Between two calls of Publish, of one record each."""

_WARM_RECORDS = 50
_WINDOW_RECORDS = 1_000_000


@dataclass(slots=True)
class SteadyStreams:
    """One publisher, at the first broker, and streams on all of them in turn; times are of CLOCK_MONOTONIC, in seconds."""

    brokers: Sequence[BrokerProcess]
    _called_s: list[float] = field(default_factory=list)
    _came_s: list[tuple[int, float]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, count: int) -> AsyncIterator[None]:
        """So many streams inside the block, which begins when records come."""
        tasks = [asyncio.create_task(self._publish(self.brokers[0]))]
        tasks += [
            asyncio.create_task(self._follow(self.brokers[number % len(self.brokers)]))
            for number in range(count)
        ]
        try:
            while len(self._came_s) < _WARM_RECORDS * count:
                done, _ = await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def delays_ms(self, begin_s: float, end_s: float) -> list[float]:
        """Of each record that was published within this time, at each stream."""
        called = ((self._called_s[number], came_s) for number, came_s in self._came_s)
        return [(came_s - called_s) * 1000 for called_s, came_s in called if begin_s <= called_s < end_s]

    async def _publish(self, broker: BrokerProcess) -> None:
        """Calls begin at their times, whether or not those before have returned."""
        async with broker.channel() as channel, asyncio.TaskGroup() as sent:
            due_s = time.monotonic()
            while True:
                record = vulnerability(f"steady/{len(self._called_s)}")
                self._called_s.append(time.monotonic())
                sent.create_task(broker.publish(channel, [record]))
                due_s += EVERY_S
                await asyncio.sleep(due_s - time.monotonic())

    async def _follow(self, broker: BrokerProcess) -> None:
        async with broker.channel() as channel:
            call = exchange_pb2_grpc.ExchangeStub(channel).Subscribe(metadata=broker.metadata("partner-cert"))
            await call.write(opening(records=_WINDOW_RECORDS))
            async for response in call:
                now_s, deliveries = time.monotonic(), response.batch.deliveries
                for delivery in deliveries:
                    self._came_s.append((int(delivery.record.id.partition("/")[2]), now_s))
                if deliveries:
                    credit = exchange_pb2.Credit(records=len(deliveries), bytes=response.ByteSize())
                    await call.write(exchange_pb2.SubscribeRequest(credit=credit))
