"""Appending to Kafka: known records are recognised, new ones stored once, also when an outcome was unknown for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.adapters.kafka.flight import SendFailed
from broker.adapters.kafka.outbox import LARGEST_BYTES, Message, Outbox
from broker.adapters.kafka.topic_tail import InFlight, Parcel, TopicTail
from broker.errors import StorageUnavailable
from broker.model.partition import partition_for
from broker.model.record import Appended, AppendResult, IdReused, NewRecord, Positions

HEADERS = (("content-type", b"application/cloudevents+protobuf"),)
"""Kafka protocol binding for CloudEvents, structured mode."""

_LARGEST_BYTES = LARGEST_BYTES - 1024
_SETTLE_RETRY_S = 1.0
_OWN_WRITES_S = 1.0


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A record whose place is known once its parcel is stored; `first` if this call stores it."""

    flight: InFlight
    digest: bytes
    first: bool

    def result(self) -> AppendResult:
        if self.digest != self.flight.digest:
            return IdReused()
        parcel = self.flight.parcel
        return Appended(parcel.partition, parcel.stored.result()[self.flight.index], duplicate=not self.first)


class Appends:
    """The append half of the log; belongs to one event loop."""

    def __init__(
        self, outbox: Outbox, latest: Callable[[TopicTail], Awaitable[Positions]], *, timeout_s: float
    ) -> None:
        self._outbox = outbox
        self._latest = latest
        self._timeout_s = timeout_s
        self._settling: set[asyncio.Task[None]] = set()

    async def append(self, tail: TopicTail, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        """See RecordLog.append."""
        if any(len(record.body) + len(record.partition_key) > _LARGEST_BYTES for record in records):
            raise ValueError(f"a record is larger than {_LARGEST_BYTES} bytes; limits are set before this")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._outbox.room()
        except TimeoutError as error:
            raise StorageUnavailable(
                "Kafka does not take records now, and the buffer is full; try again"
            ) from error
        planned = self._send(tail, records)
        parcels = {id(p.flight.parcel): p.flight.parcel for p in planned if isinstance(p, _Awaited)}.values()
        if parcels:
            stored = [parcel.stored for parcel in parcels]
            _, late = await asyncio.wait(stored, timeout=max(0.0, give_up_at - loop.time()))
            if late:
                raise StorageUnavailable(
                    "Kafka has not confirmed the records yet; repeating them is harmless"
                )
            for parcel in parcels:
                await self._visible(tail, parcel)
        return [each.result() if isinstance(each, _Awaited) else each for each in planned]

    async def close(self) -> None:
        """Stop finding out what became of failed sends."""
        for task in self._settling:
            task.cancel()
        await asyncio.gather(*self._settling, return_exceptions=True)

    def _send(self, tail: TopicTail, records: Sequence[NewRecord]) -> list[AppendResult | _Awaited]:
        """Decide each record and enqueue the new ones, in one step so that no other call comes between."""
        parcels: dict[int, Parcel] = {}
        planned = [self._plan(tail, record, parcels) for record in records]
        for parcel in parcels.values():
            messages = [Message(r.partition_key, r.body, r.recorded_ms, HEADERS) for r in parcel.records]
            try:
                landed = self._outbox.enqueue(tail.kafka_name, parcel.partition, messages)
            except StorageUnavailable:
                for each in parcels.values():
                    tail.forget_flight(each)
                raise
            landed.add_done_callback(lambda done, parcel=parcel: self._landed(tail, parcel, done))  # type: ignore[misc]
        return planned

    def _plan(
        self, tail: TopicTail, record: NewRecord, parcels: dict[int, Parcel]
    ) -> AppendResult | _Awaited:
        known = tail.known(record.identity)
        if known is not None:
            same = known.digest == record.digest
            return Appended(known.partition, known.offset, duplicate=True) if same else IdReused()
        flight = tail.in_flight.get(record.identity)
        if flight is not None:
            return _Awaited(flight, record.digest, first=False)
        partition = partition_for(record.partition_key, tail.info.partitions)
        parcel = parcels.get(partition)
        if parcel is None:
            parcel = parcels[partition] = Parcel(partition, asyncio.get_running_loop().create_future())
            parcel.stored.add_done_callback(lambda done: done.exception())
        flight = tail.in_flight[record.identity] = InFlight(parcel, len(parcel.records), record.digest)
        parcel.records.append(record)
        return _Awaited(flight, record.digest, first=True)

    def _landed(self, tail: TopicTail, parcel: Parcel, landed: asyncio.Future[list[int]]) -> None:
        error = landed.exception()
        if error is None and min(landed.result()) >= 0:
            tail.settle(parcel, landed.result())
            tail.forget_flight(parcel)
            parcel.stored.set_result(landed.result())
            return
        parcel.stored.set_exception(
            StorageUnavailable(f"{error or 'Kafka did not say where it stored it'}; try again")
        )
        if isinstance(error, SendFailed) and error.stored is False:
            tail.forget_flight(parcel)
            return
        task = asyncio.get_running_loop().create_task(self._find_out(tail, parcel))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _find_out(self, tail: TopicTail, parcel: Parcel) -> None:
        """Read to the log's end, so that the index knows what was stored; until then repetitions are refused."""
        while True:
            try:
                ends = await self._latest(tail)
                while tail.rings[parcel.partition].end < ends[parcel.partition]:
                    await tail.news(_SETTLE_RETRY_S)
                break
            except StorageUnavailable:
                await asyncio.sleep(_SETTLE_RETRY_S)
        tail.forget_flight(parcel)

    async def _visible(self, tail: TopicTail, parcel: Parcel) -> None:
        """Where others write too, the tail brings our records; let it, so that whoever appended can read at once."""
        if parcel.stored.exception() is not None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + _OWN_WRITES_S
        end = parcel.stored.result()[-1] + 1
        while tail.rings[parcel.partition].end < end and loop.time() < until:
            await tail.news(until - loop.time())
