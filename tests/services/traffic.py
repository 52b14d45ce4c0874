"""Records that are published and read while a broker, its engine or its stores fail, with exact accounting.

A lane is a partition key with the records 0, 1, 2 … in order, so the log must hold each lane contiguously: a record that
was lost, doubled or overtaken shows in any stream as a number that does not follow the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

import grpc

from connectors.receipts import TopicReceipts
from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from protos.entente.v1.exchange_pb2 import Ack, Credit, SubscribeRequest
from tests.services.broker import BrokerProcess, opening, reason, vulnerability

WHILE_STORES_FAIL = frozenset({"STORAGE_UNAVAILABLE", "LEDGER_UNAVAILABLE"})
WHILE_OPA_FAILS = frozenset({"POLICY_UNAVAILABLE"})
WHILE_KILLED = frozenset({"", "DRAINING"})
"""Without a reason the connection broke, with the transport's UNAVAILABLE."""

WINDOW_RECORDS = 4_000
_PAUSE_S = 0.05


class Progress:
    """A count that others wait for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Condition()

    async def add(self, number: int) -> None:
        """More was done."""
        async with self._changed:
            self.count += number
            self._changed.notify_all()

    async def reaches(self, number: int) -> None:
        """Return once so much was done."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.count >= number)


class Failures:
    """How calls failed, by the catalogue's reason; any other end than those permitted is an error at once."""

    def __init__(self, permitted: Iterable[str]) -> None:
        self.permitted = frozenset(permitted)
        self.seen: Counter[str] = Counter()
        self.progress = Progress()

    async def note(self, error: grpc.aio.AioRpcError) -> None:
        """Count it, or raise it."""
        found = reason(error)
        if found not in self.permitted or not (found or _broke(error)):
            raise error
        self.seen[found] += 1
        await self.progress.add(1)
        # Without this a closed door would be tried thousands of times a second.
        await asyncio.sleep(_PAUSE_S)


def _broke(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection broke; grpc.aio says INTERNAL by itself for a write that met a call's end."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or error.details() == "Internal error from Core"


class Lane:
    """Publishes its records in order, each batch again until it is acknowledged; keeps the receipts if there is a file."""

    def __init__(
        self,
        broker: BrokerProcess,
        name: str,
        *,
        batch: int,
        failures: Failures,
        progress: Progress,
        receipts: TopicReceipts | None = None,
    ) -> None:
        self.name = name
        self.acknowledged = 0
        self._broker = broker
        self._batch = batch
        self._failures = failures
        self._progress = progress
        self._receipts = receipts

    async def run(self, until: int) -> None:
        """Until so many are acknowledged."""
        async with self._broker.channel() as channel:
            while self.acknowledged < until:
                numbers = range(self.acknowledged, min(until, self.acknowledged + self._batch))
                batch = [
                    vulnerability(f"{self.name}/{number}", partition_key=self.name) for number in numbers
                ]
                try:
                    results = await self._broker.publish(channel, batch)
                except grpc.aio.AioRpcError as error:
                    await self._failures.note(error)
                    continue
                refused = [result.refused.reason for result in results if not result.HasField("accepted")]
                assert not refused, refused
                assert len(results) == len(batch)
                if self._receipts is not None:
                    self._receipts.add_published(batch, [result.accepted for result in results])
                self.acknowledged += len(batch)
                await self._progress.add(len(batch))


class Reader:
    """Follows the topic over as many streams as it takes, and checks each of them.

    With a name it acknowledges, and each stream must go on between what it knows to be acknowledged and what it has
    received; without one each stream begins at the first record. Keeps the receipts if there is a file.
    """

    def __init__(
        self,
        broker: BrokerProcess,
        lanes: Sequence[str],
        *,
        failures: Failures,
        name: str = "",
        receipts: TopicReceipts | None = None,
    ) -> None:
        self.streams = 0
        self.opened = asyncio.Event()
        self.deliveries = 0
        self.received = dict.fromkeys(lanes, 0)
        self.confirmed = dict.fromkeys(lanes, 0)
        self._broker = broker
        self._name = name
        self._failures = failures
        self._receipts = receipts

    async def run(self, until: int) -> None:
        """Until each lane has brought so many records."""
        async with self._broker.channel() as channel:
            while min(self.received.values()) < until:
                try:
                    await self._stream(channel, until)
                except grpc.aio.AioRpcError as error:
                    await self._failed(error)

    async def _failed(self, error: grpc.aio.AioRpcError) -> None:
        """Before it tries again."""
        await self._failures.note(error)

    async def _stream(self, channel: grpc.aio.Channel, until: int) -> None:
        stub = exchange_pb2_grpc.ExchangeStub(channel)
        call = stub.Subscribe(metadata=self._broker.metadata("partner-cert"))
        await call.write(opening(records=WINDOW_RECORDS, name=self._name))
        following: dict[str, int] = {}
        sent: dict[bytes, dict[str, int]] = {}
        try:
            async for response in call:
                if response.HasField("opened"):
                    self.streams += 1
                    self.opened.set()
                if response.HasField("acked"):
                    self._confirm(sent, response.acked.cursor)
                if response.HasField("batch"):
                    await self._take(call, response.batch, following, sent)
                if min(self.received.values()) >= until and (not self._name or not sent):
                    return
        finally:
            call.cancel()

    async def _take(
        self,
        call: grpc.aio.StreamStreamCall[SubscribeRequest, exchange_pb2.SubscribeResponse],
        batch: exchange_pb2.Batch,
        following: dict[str, int],
        sent: dict[bytes, dict[str, int]],
    ) -> None:
        if self._receipts is not None:
            self._receipts.add_batch(batch)
        for delivery in batch.deliveries:
            self._check(delivery.record.id, following)
        credit = Credit(records=len(batch.deliveries), bytes=batch.ByteSize())
        # A write on a stream that has broken meanwhile: reading on tells how it ended.
        with contextlib.suppress(asyncio.InvalidStateError):
            await call.write(SubscribeRequest(credit=credit))
            if self._name:
                sent[batch.cursor] = dict(following)
                await call.write(SubscribeRequest(ack=Ack(cursor=batch.cursor)))

    def _check(self, record_id: str, following: dict[str, int]) -> None:
        lane, _, text = record_id.partition("/")
        number = int(text)
        if lane in following:
            assert number == following[lane], f"{lane}: {number} where {following[lane]} was due"
        else:
            low, high = self.confirmed[lane], self.received[lane] if self._name else 0
            assert low <= number <= high, f"{lane}: resumed at {number}, not within {low} to {high}"
        following[lane] = number + 1
        self.received[lane] = max(self.received[lane], number + 1)
        self.deliveries += 1

    def _confirm(self, sent: dict[bytes, dict[str, int]], cursor: bytes) -> None:
        """An answered acknowledgement covers the earlier ones."""
        for lane, number in sent[cursor].items():
            self.confirmed[lane] = max(self.confirmed[lane], number)
        for earlier in list(sent):
            found = sent.pop(earlier)
            if earlier == cursor:
                break
            assert all(number <= self.confirmed[lane] for lane, number in found.items())


Fault = Callable[[], Awaitable[None]]


class Traffic:
    """Lanes that publish and a named subscription that follows, with faults at given counts of acknowledged records."""

    def __init__(
        self,
        broker: BrokerProcess,
        *,
        lanes: int,
        batch: int,
        permitted: Iterable[str],
        name: str = "traffic",
    ) -> None:
        self.broker = broker
        self.failures = Failures(permitted)
        self.progress = Progress()
        self.names = [f"lane-{number}" for number in range(lanes)]
        self.lanes = [
            Lane(broker, lane, batch=batch, failures=self.failures, progress=self.progress)
            for lane in self.names
        ]
        self.reader = Reader(broker, self.names, failures=self.failures, name=name)

    async def run(self, records: int, faults: Iterable[tuple[int, Fault]] = ()) -> None:
        """Publish so many records a lane and read them all; each fault strikes once its count is acknowledged.

        The last record of each lane comes after the last fault, so every fault strikes a stream that is still open.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.reader.run(records))
            await self.reader.opened.wait()
            publishing = [tasks.create_task(lane.run(records - 1)) for lane in self.lanes]
            for count, fault in faults:
                await self.progress.reaches(count)
                await fault()
            await asyncio.wait(publishing)
            for lane in self.lanes:
                tasks.create_task(lane.run(records))

    async def check_log(self, records: int) -> None:
        """A new subscriber finds each record once: a closing record in each lane shows that nothing stands before it."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self.lanes:
                tasks.create_task(lane.run(records + 1))
        reader = Reader(self.broker, self.names, failures=Failures(()))
        await reader.run(records + 1)
        assert reader.streams == 1
        assert reader.deliveries == len(self.names) * (records + 1)
