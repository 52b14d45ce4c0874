"""What a stream is opened with and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

from connectors.cloudevents import to_timestamp
from connectors.retry import RECONNECT, Retry
from protos.entente.v1 import exchange_pb2 as pb
from protos.entente.v1 import subscriptions_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Start = Literal["earliest", "latest"] | datetime | bytes
"""Where a stream begins: a position, the first record stored at or after a time, or a cursor."""


class Delivery(NamedTuple):
    """One record, notice, withdrawal or policy change; exactly one of them is set.

    A withdrawal tells that a record which the agency was handed before is not to be used any more; a policy change, that
    what comes from now on is shown otherwise. The latter takes no credit, counts towards no limit, and has the cursor of
    what came before it.

    cursor: where to resume so that nothing is lost. The last delivery of a batch carries the batch's cursor, the
    earlier ones the cursor from before the batch: resuming from one of those repeats part of the batch.
    size_bytes: what it cost of the byte credit. session: the connection that brought it, counted from 1.
    receipt: that of its batch, opaque: where the exchange's ledger accounts for it.
    ends_batch: whether nothing of its batch follows, so that `cursor` tells of this delivery too.
    """

    record: CloudEvent | None
    notice: pb.Notice | None
    withdrawal: pb.Withdrawal | None
    disclosure: pb.Disclosure
    cursor: bytes
    size_bytes: int
    session: int
    receipt: bytes = b""
    policy_change: pb.PolicyChange | None = None
    ends_batch: bool = True


class StreamChoices(TypedDict, total=False):
    """The optional part of StreamOptions, as keyword arguments."""

    subscription: str | None
    start: Start
    on_expired: Literal["fail", "earliest"]
    max_in_flight: int
    max_in_flight_bytes: int
    limit: int | None
    idle_timeout_s: float | None
    reconnect: Retry
    receipts: Path | None


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to open and how much to take.

    subscription: the name of a durable one, or None. max_in_flight, max_in_flight_bytes: records and bytes that may be
    on their way or buffered here. limit: ends after so many deliveries and never grants credit for more.
    idle_timeout_s: ends when the open stream has brought nothing for so long. receipts: a file to which the receipt of
    each batch is appended (see connectors.receipts).
    """

    topic: str
    purpose: str
    subscription: str | None = None
    start: Start = "earliest"
    on_expired: Literal["fail", "earliest"] = "fail"
    max_in_flight: int = 1_000
    max_in_flight_bytes: int = 8 * 1024 * 1024
    limit: int | None = None
    idle_timeout_s: float | None = None
    reconnect: Retry = field(default=RECONNECT)
    receipts: Path | None = None


def open_message(options: StreamOptions, cursor: bytes, credit: pb.Credit) -> pb.Open:
    """The first message of a session. `cursor`, where not empty, is where an unnamed stream goes on."""
    opening = pb.Open(
        topic=options.topic, purpose=options.purpose, subscription=options.subscription or "", credit=credit
    )
    if options.on_expired == "earliest":
        opening.on_expired = pb.ON_EXPIRED_EARLIEST
    start: Start = cursor if cursor and not options.subscription else options.start
    if isinstance(start, bytes):
        opening.cursor = start
    elif isinstance(start, datetime):
        opening.time.CopyFrom(to_timestamp(start))
    else:
        earliest = start == "earliest"
        opening.position = pb.START_POSITION_EARLIEST if earliest else pb.START_POSITION_LATEST
    return opening


def seek_target(to: Start) -> subscriptions_pb2.SeekTarget:
    """Where a subscription is moved to, or begins."""
    if isinstance(to, bytes):
        return subscriptions_pb2.SeekTarget(cursor=to)
    if isinstance(to, datetime):
        return subscriptions_pb2.SeekTarget(time=to_timestamp(to))
    if to == "earliest":
        return subscriptions_pb2.SeekTarget(earliest=True)
    return subscriptions_pb2.SeekTarget(latest=True)


def deliveries(batch: pb.Batch, before: bytes, session: int) -> list[Delivery]:
    """A batch's deliveries, each with the cursor that is safe to resume from after it; `before`: the one before it."""
    last, cursor, receipt = len(batch.deliveries) - 1, batch.cursor, batch.receipt
    found = []
    for index, item in enumerate(batch.deliveries):
        content = item.WhichOneof("content")
        found.append(
            Delivery(
                item.record if content == "record" else None,
                item.notice if content == "notice" else None,
                item.withdrawal if content == "withdrawal" else None,
                item.disclosure,
                cursor if index == last else before,
                _encoded_bytes(item.ByteSize()),
                session,
                receipt,
                ends_batch=index == last,
            )
        )
    return found


def change_of_policy(change: pb.PolicyChange, before: bytes, session: int) -> Delivery:
    """With the cursor of the delivery before it, so that acknowledging it says what acknowledging that one does."""
    return Delivery(None, None, None, pb.Disclosure(), before, 0, session, policy_change=change)


def _encoded_bytes(size_bytes: int) -> int:
    """The size of an entry of Batch.deliveries as the exchange counts it: with its tag and its length (a varint)."""
    return 1 + max(1, (size_bytes.bit_length() + 6) // 7) + size_bytes
