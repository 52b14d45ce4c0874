"""Publishing: batches within the exchange's limits, and a pipelined stream that survives reconnects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import grpc

from connectors.calls import Caller
from connectors.errors import (
    TRANSPORT,
    EntenteClientError,
    Unavailable,
    error_of,
    from_rpc,
    is_retryable_refusal,
)
from connectors.receipts import TopicReceipts
from connectors.varints import varint
from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

if TYPE_CHECKING:
    # Only the stub file knows this name.
    from protos.entente.v1.exchange_pb2_grpc import ExchangeAsyncStub

BATCH_RECORDS = 500
BATCH_BYTES = 2 * 1024 * 1024
"""Below the exchange's default limits: 1,000 records a call and 4 MiB a message."""

UNANSWERED_BATCHES = 4
"""As many are under way at once on one stream."""

_RECORD_TAG = bytes([pb.PublishRequest.RECORDS_FIELD_NUMBER << 3 | 2])
_Call = grpc.aio.StreamStreamCall[pb.PublishStreamRequest, pb.PublishStreamResponse]


class PublishOutcome(NamedTuple):
    """What became of one record, in the order of publication.

    position: opaque bytes if the record is durable, else None. duplicate: an equal record was there before.
    receipt: opaque bytes if it is durable: where the exchange's ledger accounts for it; else None. reason, message,
    reference: if the record was refused, the catalogue's reason, its text, and the call's reference, by which the
    exchange's administrators find it; else None.
    """

    source: str
    id: str
    position: bytes | None = None
    duplicate: bool = False
    receipt: bytes | None = None
    reason: str | None = None
    message: str | None = None
    reference: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether it was refused for a reason that lies not in the record: send it again later, never give it up."""
        return self.reason is not None and is_retryable_refusal(self.reason)

    def error(self) -> EntenteClientError | None:
        """Why it was refused, as the exception that the reason calls for; None if it is durable."""
        if self.reason is None:
            return None
        return error_of(self.reason, self.message or self.reason, self.reference or "")


def publish_call(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[bytes, pb.PublishResponse]:
    """`Exchange.Publish` for requests as `encoded` makes them."""
    method = f"/{pb.DESCRIPTOR.services_by_name['Exchange'].full_name}/Publish"
    return channel.unary_unary(method, response_deserializer=pb.PublishResponse.FromString)


def cut(
    records: Iterable[CloudEvent], *, max_records: int = BATCH_RECORDS, max_bytes: int = BATCH_BYTES
) -> Iterator[list[CloudEvent]]:
    """Batches in order of at most `max_records`, and of at most `max_bytes` unless one record alone is larger."""
    batch: list[CloudEvent] = []
    size_bytes = 0
    for record in records:
        record_bytes = record.ByteSize()
        if batch and (len(batch) == max_records or size_bytes + record_bytes > max_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append(record)
        size_bytes += record_bytes
    if batch:
        yield batch


def encoded(topic: str, batch: Iterable[CloudEvent]) -> bytes:
    """A PublishRequest as it is sent; to make the message first would copy each record into it."""
    parts = [pb.PublishRequest(topic=topic).SerializeToString()]
    for record in batch:
        content = record.SerializeToString()
        parts += (_RECORD_TAG, varint(len(content)), content)
    return b"".join(parts)


def outcomes(batch: Sequence[CloudEvent], results: Sequence[pb.PublishResult]) -> list[PublishOutcome]:
    """Pair records with their results. Raises EntenteClientError (TRANSPORT) if the counts differ."""
    if len(batch) != len(results):
        message = f"{len(results)} results for {len(batch)} records"
        raise Unavailable(TRANSPORT, message, code="INTERNAL")
    return [_outcome(record, result) for record, result in zip(batch, results, strict=True)]


def _outcome(record: CloudEvent, result: pb.PublishResult) -> PublishOutcome:
    if result.WhichOneof("outcome") == "accepted":
        accepted = result.accepted
        return PublishOutcome(
            record.source, record.id, accepted.position, accepted.duplicate, accepted.receipt
        )
    # An empty result counts as refused: only a position makes a record durable.
    refused = result.refused
    return PublishOutcome(
        record.source,
        record.id,
        reason=refused.reason or "INTERNAL",
        message=refused.message or "no result",
        reference=refused.reference,
    )


def refused_alone(batch: Sequence[CloudEvent], error: EntenteClientError) -> list[PublishOutcome] | None:
    """The outcome of a record whose call was refused for nothing but its size; None if that is not so.

    What is larger than the exchange reads at all the transport cuts off, without a reason of the catalogue.
    """
    if len(batch) != 1 or not _is_too_large(error):
        return None
    (record,) = batch
    if error.reason == TRANSPORT and record.ByteSize() <= BATCH_BYTES:
        return None
    return [
        PublishOutcome(
            record.source,
            record.id,
            reason="RECORD_TOO_LARGE",
            message=f"The record of {record.ByteSize()} bytes is larger than the exchange takes in a call; split it.",
            reference=error.reference,
        )
    ]


def _is_too_large(error: EntenteClientError) -> bool:
    cut_off = error.reason == TRANSPORT and error.code == "RESOURCE_EXHAUSTED"
    return cut_off or error.reason == "MESSAGE_TOO_LARGE"


class PublishPipe:
    """PublishStream with a few batches under way; what was not answered is sent again after a reconnect."""

    def __init__(
        self, stub: ExchangeAsyncStub, caller: Caller, topic: str, receipts: TopicReceipts | None = None
    ) -> None:
        self._stub = stub
        self._caller = caller
        self._topic = topic
        self._receipts = receipts
        self._unanswered: deque[Sequence[CloudEvent]] = deque()
        self._call: _Call | None = None
        self._written = 0  # of the unanswered batches, on the present call

    async def run(self, batches: Iterable[Sequence[CloudEvent]]) -> AsyncIterator[list[PublishOutcome]]:
        """Outcomes batch by batch, in order. Raises EntenteClientError; what was yielded before is durable."""
        async with self:
            for batch in batches:
                await self.put(batch)
                if self.unanswered >= UNANSWERED_BATCHES:
                    yield await self.answer()
            while self.unanswered:
                yield await self.answer()

    async def __aenter__(self) -> Self:
        if self._receipts is not None:
            await self._receipts.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.rest()
        if self._receipts is not None:
            self._receipts.close()

    def rest(self) -> None:
        """End the call; the next batch begins another one."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def unanswered(self) -> int:
        """How many batches were put and not answered; keep it to UNANSWERED_BATCHES."""
        return len(self._unanswered)

    async def put(self, batch: Sequence[CloudEvent]) -> None:
        """Send a batch, or have it sent with the next answer."""
        self._unanswered.append(batch)
        await self._write_all()

    async def answer(self) -> list[PublishOutcome]:
        """The outcomes of the oldest unanswered batch. Raises EntenteClientError."""
        found = await self._answer()
        await self._write_all()
        return found

    async def _answer(self) -> list[PublishOutcome]:
        """The outcomes of the oldest batch, over as many connections as it takes."""
        for pause_s in self._caller.retry.pauses_s():
            try:
                return await self._answer_once()
            except EntenteClientError as error:
                if not self._caller.may_publish_again(error):
                    raise
            await asyncio.sleep(pause_s)
        return await self._answer_once()

    async def _answer_once(self) -> list[PublishOutcome]:
        if self._call is None:
            # Only the oldest batch before the first answer: a write that meets the end of its stream makes grpc.aio
            # report an internal error in place of the reason for the end.
            self._call, self._written = self._stub.PublishStream(metadata=await self._caller.metadata()), 0
            await self._write(self._call, self._unanswered[0])
        if self._call is None:
            raise self._silent()
        try:
            async with asyncio.timeout(self._caller.timeout_s):
                response = await self._call.read()
        except TimeoutError:
            self.rest()
            raise self._silent() from None
        except grpc.aio.AioRpcError as error:
            self._call = None
            return await self._refused(from_rpc(error, self._caller.endpoint))
        if not isinstance(response, pb.PublishStreamResponse):
            self._call = None
            raise Unavailable(TRANSPORT, "the exchange ended the stream early", code="UNAVAILABLE")
        self._written -= 1
        batch = self._unanswered.popleft()
        found = outcomes(batch, response.results)
        if self._receipts is not None:
            self._receipts.add_published(batch, found)
        return found

    async def _refused(self, error: EntenteClientError) -> list[PublishOutcome]:
        if _is_too_large(error) and self._written > 1:
            # A later batch may be the one that is too large: a new call begins with the oldest alone.
            return await self._answer_once()
        alone = refused_alone(self._unanswered[0], error)
        if alone is None:
            raise error
        self._unanswered.popleft()
        return alone

    async def _write_all(self) -> None:
        """Write what waits, if there is a call that has answered before."""
        while self._call is not None and self._written < len(self._unanswered):
            await self._write(self._call, self._unanswered[self._written])

    async def _write(self, call: _Call, batch: Sequence[CloudEvent]) -> None:
        self._written += 1
        try:
            async with asyncio.timeout(self._caller.timeout_s):
                await call.write(pb.PublishStreamRequest(topic=self._topic, records=batch))
        except TimeoutError:
            self.rest()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the next read tells why

    def _silent(self) -> Unavailable:
        text = f"{self._caller.endpoint}: no answer within {self._caller.timeout_s:g} s"
        return Unavailable(TRANSPORT, text, code="DEADLINE_EXCEEDED")
