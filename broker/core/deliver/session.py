"""One open stream: its credit, what waits to be written, and where it stands."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from dataclasses import dataclass, field

from broker.core.cursor import Cursor, CursorBinding, CursorCodec
from broker.core.decide import Ruling
from broker.core.deliver.budget import Budget
from broker.core.deliver.history import History
from broker.core.deliver.standing import Standing
from broker.core.deliver.wire import batch_response
from broker.core.ledger.receipt import Receipt, ReceiptCodec
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal, SubjectClass
from broker.model.record import Positions
from broker.model.subscription import SubscriptionKey

MAX_CREDIT_RECORDS = 1_000_000
MAX_CREDIT_BYTES = 256 << 20
_STREAM_ID_BYTES = 8


@dataclass(slots=True)
class Outgoing:
    """A serialised SubscribeResponse that waits to be written; `size_bytes` is 0 but for batches."""

    message: bytes
    size_bytes: int = 0


@dataclass(slots=True)
class Buffers:
    """What all streams of an instance have queued, and the most that they may.

    An agency gets no more room once it uses as much as is free, so whatever some do, another finds some: k agencies
    that do not read leave one part in k + 1. starved: somebody found no room since this was last set to False.
    """

    limit_bytes: int
    used_bytes: int = 0
    starved: bool = False
    _used_by: Counter[str] = field(default_factory=Counter)

    def left_bytes(self, agency: str) -> int:
        """Room that is left for all streams of one agency together."""
        # Half of the difference, rounded up: once that is used, the agency's part and what is free are equal.
        left = -((self.used_bytes + self._used_by[agency] - self.limit_bytes) // 2)
        self.starved = self.starved or left <= 0
        return left

    def use(self, agency: str, change_bytes: int) -> None:
        """Account for what an agency's stream queues, or, negative, no longer does."""
        self.used_bytes += change_bytes
        self._used_by[agency] += change_bytes


class Session:
    """State of one stream on one topic; used from the event loop only.

    stream: its id in the ledger, random. subscription_key: the named subscription, or None. standing: up to where it was
    served. history: what no entry accounts for yet; while the session is in a group it is the group's to extend. It ends
    where the session stands, unless an entry says that something was handed out to it which it left too early to get.
    accounting: writes an entry that names it. acknowledged: the newest positions, () if there are none. admitted: by whose
    rules it may be served: those that were last asked whether its principal may subscribe. rulings: what they answered.
    apart: its subject, if an owner's records wait for this principal and not for others of its class. away: its class is
    being changed, and nobody else may place it meanwhile.
    """

    def __init__(
        self,
        *,
        principal: Principal,
        admitted: Regime,
        rulings: tuple[Ruling, ...],
        purpose: str,
        topic: str,
        binding: CursorBinding,
        epoch: int,
        standing: Standing,
        codec: CursorCodec,
        receipts: ReceiptCodec,
        buffer_limit_bytes: int,
        buffers: Buffers,
    ) -> None:
        self.stream = secrets.token_hex(_STREAM_ID_BYTES)
        self.principal = principal
        self.admitted = admitted
        self.rulings = rulings
        self.apart: str | None = None
        self.away = False
        self.purpose = purpose
        self.topic = topic
        self.binding = binding
        named = SubscriptionKey(binding.agency, binding.subject, binding.subscription)
        self.subscription_key = named if binding.subscription else None
        self.epoch = epoch
        self.standing = standing
        self.history = History.begin(standing)
        self.acknowledged: Positions = ()
        self.accounting: asyncio.Future[None] | None = None
        self.failure: EntenteError | None = None
        self.credit_closed = False
        self._codec = codec
        self._receipts = receipts
        self._associated_data = binding.associated_data()
        self._buffer_limit_bytes = buffer_limit_bytes
        self._credit_records = 0
        self._credit_bytes = 0
        self._buffers = buffers
        self._buffered_bytes = 0
        self._outbox: deque[Outgoing] = deque()
        self._answer: Outgoing | None = None
        self._settling = False
        self._wakeup = asyncio.Event()

    @property
    def subject_class(self) -> SubjectClass:
        """The class under which this stream is decided."""
        return self.principal.subject_class(self.purpose)

    @property
    def is_open(self) -> bool:
        """Whether anything may still be released to it."""
        return self.failure is None

    @property
    def is_spent(self) -> bool:
        """Half-closed, all credit used, all written and every acknowledgement stored: nothing is left to do."""
        has_credit = self._credit_records > 0 and self._credit_bytes > 0
        waits = self._outbox or self._answer is not None or self._settling
        return self.credit_closed and not has_credit and not waits

    def grant(self, records: int, size_bytes: int) -> None:
        """Add credit; raises EntenteError LIMIT_EXCEEDED beyond the maximum."""
        self._credit_records += records
        self._credit_bytes += size_bytes
        if self._credit_records > MAX_CREDIT_RECORDS or self._credit_bytes > MAX_CREDIT_BYTES:
            raise EntenteError(Reason.LIMIT_EXCEEDED, "outstanding credit")

    def budget(self, sharing: int = 1) -> Budget:
        """What may be handed to it now: the lesser of its credit and of the room in its buffer.

        sharing: how many streams are about to be handed the same, each of which takes its part of the common room.
        """
        if not self.is_open:
            return Budget(0, 0)
        common = -(-self._buffers.left_bytes(self.principal.agency) // sharing)
        room = min(self._buffer_limit_bytes - self._buffered_bytes, common)
        return Budget(self._credit_records, min(self._credit_bytes, room))

    def hand_out(self, deliveries: bytes, count: int, standing: Standing, receipt: Receipt) -> None:
        """Take a batch that the ledger accounts for; receipt: of the entry that does."""
        self.standing = standing
        self._credit_records -= count
        self._credit_bytes -= len(deliveries)
        self._buffer(len(deliveries))
        sealed = self._receipts.seal(receipt, self.principal.agency, self.principal.subject)
        self.put(Outgoing(batch_response(deliveries, self.cursor(), sealed), len(deliveries)))

    async def accounted(self) -> None:
        """Wait until no entry that names this stream is being written; it must be in no group any more."""
        while self.accounting is not None:
            await asyncio.wait([self.accounting])

    def put(self, outgoing: Outgoing) -> None:
        """Queue a message behind those that wait."""
        self._outbox.append(outgoing)
        self._wakeup.set()

    def settle(self) -> None:
        """An acknowledgement came: the stream does not end before it is answered."""
        self._settling = True

    def answer(self, outgoing: Outgoing, *, settled: bool) -> None:
        """Answer an acknowledgement, in place of an earlier answer that was not written yet.

        settled: no newer acknowledgement waits.
        """
        self._answer = outgoing
        self._settling = not settled
        self._wakeup.set()

    async def next(self) -> Outgoing | None:
        """The next message to write; None when the stream is to end (see `failure`).

        A failure comes before what is still queued: after a takeover, expiry or suspension nothing more is written.
        """
        while True:
            if self.failure is not None:
                return None
            if self._answer is not None:
                answer, self._answer = self._answer, None
                return answer
            if self._outbox:
                return self._outbox.popleft()
            if self.is_spent:
                return None
            self._wakeup.clear()
            await self._wakeup.wait()

    def written(self, outgoing: Outgoing) -> None:
        """The transport took the message: its room in the buffer is free again."""
        self._buffer(-outgoing.size_bytes)

    def discard(self) -> None:
        """Drop what is still queued and give its room back; for a stream that has ended."""
        self._outbox.clear()
        self._buffer(-self._buffered_bytes)

    def _buffer(self, change_bytes: int) -> None:
        self._buffered_bytes += change_bytes
        self._buffers.use(self.principal.agency, change_bytes)

    def cursor(self) -> bytes:
        """A fresh cursor of where the stream stands."""
        return self._codec.seal(Cursor(self.standing.cursor, self.epoch), self._associated_data)

    def open_cursor(self, sealed: bytes) -> Cursor:
        """A cursor of this stream; raises CURSOR_INVALID, or ACK_REFUSED for one of another stream or not yet handed out."""
        present = self.standing.cursor
        cursor = self._codec.open(sealed, self._associated_data, len(present))
        ahead = any(mine < theirs for mine, theirs in zip(present, cursor.positions, strict=True))
        if cursor.epoch != self.epoch or ahead:
            raise EntenteError(Reason.ACK_REFUSED)
        return cursor

    def bar(self, error: EntenteError) -> None:
        """Nothing is released or written to it any more; `fail` ends it. The first error counts."""
        if self.failure is None:
            self.failure = error

    def fail(self, error: EntenteError) -> None:
        """End the stream with an error; the first one counts."""
        self.bar(error)
        self._wakeup.set()

    def close_credit(self) -> None:
        """The client half-closed: no more credit comes."""
        self.credit_closed = True
        self._wakeup.set()
