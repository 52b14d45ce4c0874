"""Opening a stream and what happens on it: start position, takeover, acknowledgements, refresh, closing."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from enum import Enum

from broker.core.access import Access
from broker.core.acknowledgements import Acknowledgements
from broker.core.cursor import CursorBinding, CursorCodec
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.history import History
from broker.core.deliver.session import Session
from broker.core.deliver.standing import Standing
from broker.core.evidence import Evidence, decisions, who
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.moves import Cause, moved_body, stream_part, subscription_entries
from broker.errors import EntenteError, EpochConflict, Reason, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.record import LogTopic, Positions
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.clock import Clock
from broker.ports.record_log import RecordLog
from broker.ports.subscription_store import SubscriptionStore

log = logging.getLogger(__name__)

SUBSCRIPTION_NAME = re.compile(r"[a-z0-9._-]{1,64}")


class Start(Enum):
    """A place to begin that is no time and no cursor."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class StartAt:
    """Where to begin: exactly one of `place`, `time_ms` and `cursor`."""

    place: Start | None = None
    time_ms: int | None = None
    cursor: bytes | None = None


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a client asks for when it opens a stream; `subscription` is "" for an unnamed one."""

    topic: str
    purpose: str
    subscription: str
    start: StartAt
    earliest_on_expired: bool


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where a stream begins, before retention is looked at, under which epoch, and why there."""

    positions: Positions
    epoch: int
    cause: Cause


class Places:
    """Turns start positions into offsets; raises EntenteError STORAGE_UNAVAILABLE."""

    def __init__(self, log: RecordLog, topics: dict[str, LogTopic], codec: CursorCodec) -> None:
        self._log = log
        self._topics = topics
        self._codec = codec

    def log_topic(self, topic: str) -> LogTopic:
        """The topic as the log knows it."""
        return self._topics[topic]

    async def find(self, topic: str, start: StartAt, binding: CursorBinding) -> Positions:
        """The positions; raises CURSOR_INVALID for a cursor of another principal, topic or incarnation."""
        if start.cursor is not None:
            partitions = self._topics[topic].partitions
            return self._codec.open(start.cursor, binding.associated_data(), partitions).positions
        try:
            if start.time_ms is not None:
                return await self._log.positions_at(topic, start.time_ms)
            if start.place is Start.LATEST:
                return await self._log.end_positions(topic)
            return await self._log.start_positions(topic)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def within_retention(
        self, topic: str, positions: Positions, *, earliest_on_expired: bool
    ) -> Positions:
        """The positions, moved up to retention if the client chose so; else raises POSITION_EXPIRED."""
        try:
            earliest = await self._log.start_positions(topic)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        clamped = tuple(max(have, first) for have, first in zip(positions, earliest, strict=True))
        if clamped != positions and not earliest_on_expired:
            raise EntenteError(Reason.POSITION_EXPIRED)
        return clamped


class Streams:
    """The subscribe use case of one revision."""

    def __init__(
        self,
        *,
        access: Access,
        places: Places,
        store: SubscriptionStore,
        fanout: FanOut,
        evidence: Evidence,
        codec: CursorCodec,
        receipts: ReceiptCodec,
        clock: Clock,
        buffer_limit_bytes: int,
        limit_per_principal: int,
    ) -> None:
        self._access = access
        self._places = places
        self._store = store
        self._fanout = fanout
        self._evidence = evidence
        self._codec = codec
        self._receipts = receipts
        self._acknowledgements = Acknowledgements(evidence)
        self._clock = clock
        self._buffer_limit_bytes = buffer_limit_bytes
        self._limit_per_principal = limit_per_principal

    async def open(self, principal: Principal, request: OpenRequest) -> Session:
        """A session that is served as soon as it has credit; its opening is in the ledger.

        Raises EntenteError: see Exchange.Subscribe.
        """
        rulings = await self._access.require_subscribe(principal, request.topic, request.purpose)
        topic = self._places.log_topic(request.topic)
        binding = CursorBinding(principal.agency, principal.subject, topic.incarnation, request.subscription)
        begin = await self._begin(principal, request, topic, binding)
        positions = await self._places.within_retention(
            request.topic, begin.positions, earliest_on_expired=request.earliest_on_expired
        )
        session = Session(
            principal=principal,
            purpose=request.purpose,
            topic=request.topic,
            binding=binding,
            epoch=begin.epoch,
            standing=Standing(positions),
            codec=self._codec,
            receipts=self._receipts,
            buffer_limit_bytes=self._buffer_limit_bytes,
            buffers=self._fanout.buffers,
        )
        cause = begin.cause if positions == begin.positions else Cause.EXPIRED
        came_from = begin.positions if request.subscription else None
        opened = {**_of(session), "decisions": decisions(rulings)}
        await self._evidence.write_all(
            [
                self._evidence.entry("stream_opened", opened),
                self._evidence.entry("moved", moved_body(_of(session), came_from, positions, cause)),
            ]
        )
        self._fanout.begin(session)
        return session

    async def acknowledge(self, session: Session, sealed: bytes) -> None:
        """Store the position that the cursor holds, durably; an older one changes nothing.

        Raises EntenteError CURSOR_INVALID, ACK_REFUSED (not this stream's, or taken over), STORAGE_UNAVAILABLE.
        """
        cursor = session.open_cursor(sealed)
        key = session.subscription_key
        try:
            if key is not None:
                await self._store.commit(key, session.epoch, cursor.positions, self._clock.now_ms())
        except EpochConflict:
            raise EntenteError(Reason.ACK_REFUSED) from None
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        self._acknowledgements.note(session, cursor.positions)

    async def refresh(self, session: Session, principal: Principal) -> None:
        """Go on under a new token of the same principal; a changed class is decided anew.

        Raises EntenteError REFRESH_REFUSED, PURPOSE_NOT_PERMITTED, POLICY_DENIED, LEDGER_UNAVAILABLE.
        """
        if principal.key != session.principal.key:
            raise EntenteError(Reason.REFRESH_REFUSED)
        try:
            await self._access.require_subscribe(principal, session.topic, session.purpose)
        except EntenteError as error:
            # An open stream tells no secret by naming its topic's owner as the one to ask.
            raise (
                EntenteError(Reason.POLICY_DENIED, decisions=error.decisions)
                if error.reason is Reason.TOPIC_NOT_FOUND
                else error
            ) from None
        if principal.subject_class(session.purpose) == session.subject_class:
            session.principal = principal
            return
        self._fanout.remove(session)
        await session.accounted()
        session.principal = principal
        if session.history.until != session.standing:
            # Named in an entry that became durable meanwhile, and handed nothing of what was decided for the old class.
            session.accounting = asyncio.ensure_future(self._move_back(session))
            await asyncio.shield(session.accounting)
        self._fanout.park(session)

    async def close(self, session: Session, cause: str) -> None:
        """Serve the session no more and account for its end; an entry that cannot be written now is written later."""
        self._fanout.end(session)
        await session.accounted()
        end: dict[str, JsonValue] = {"cause": cause, "standing": session.history.until.as_json()}
        body = {**_of(session), "end": end, "considered": [session.history.as_json()]}
        await self._acknowledgements.close(session, self._evidence.entry("stream_closed", body))

    async def settle(self) -> None:
        """Write what is not yet written of streams that have ended."""
        await self._acknowledgements.settle()

    async def _move_back(self, session: Session) -> None:
        """The stream goes on from where it really stands, as a stream that is resumed from its cursor would."""
        try:
            told, standing = session.history.until.cursor, Standing(session.standing.cursor)
            body = moved_body(_of(session), told, standing.next, Cause.REFRESHED)
            await self._evidence.write_all([self._evidence.entry("moved", body)], patient=True)
            session.standing, session.history = standing, History.begin(standing)
        finally:
            session.accounting = None

    async def _begin(
        self, principal: Principal, request: OpenRequest, topic: LogTopic, binding: CursorBinding
    ) -> _Begin:
        if not request.subscription:
            positions = await self._places.find(request.topic, request.start, binding)
            return _Begin(positions, 0, Cause.START)
        check_name(request.subscription)
        key = SubscriptionKey(principal.agency, principal.subject, request.subscription)
        try:
            return await self._claim(principal, key, request, topic, binding)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def _claim(
        self,
        principal: Principal,
        key: SubscriptionKey,
        request: OpenRequest,
        topic: LogTopic,
        binding: CursorBinding,
    ) -> _Begin:
        """Create the subscription if it is absent, check that it is this one, and take it over."""
        stored = await self._store.get(key)
        if stored is None:
            stored = await self._create(principal, key, request, topic, binding)
        check_same(stored, request.topic, request.purpose, topic.incarnation)
        cause = Cause.TAKEOVER if self._fanout.serves(key) else Cause.RESUMED
        claimed = await self._store.claim(key, self._clock.now_ms())
        if claimed is None:
            raise EntenteError(Reason.SUBSCRIPTION_NOT_FOUND, key.name)
        return _Begin(claimed.positions, claimed.epoch, cause)

    async def _create(
        self,
        principal: Principal,
        key: SubscriptionKey,
        request: OpenRequest,
        topic: LogTopic,
        binding: CursorBinding,
    ) -> Subscription:
        if len(await self._store.list(key.agency, key.subject)) >= self._limit_per_principal:
            raise EntenteError(
                Reason.LIMIT_EXCEEDED, f"{self._limit_per_principal} subscriptions a principal"
            )
        positions = await self._places.find(request.topic, request.start, binding)
        now = self._clock.now_ms()
        new = Subscription(key, request.topic, topic.incarnation, request.purpose, positions, 0, now, now)
        # Before it exists: else a subscription whose stream could not be opened would have no beginning in the ledger.
        await self._evidence.write_all(
            subscription_entries(self._evidence, principal, "create", new, to=positions)
        )
        return await self._store.create(new)


def check_name(name: str) -> None:
    """Raises EntenteError REQUEST_INVALID unless `name` may name a subscription."""
    if not SUBSCRIPTION_NAME.fullmatch(name):
        raise EntenteError(Reason.REQUEST_INVALID, "subscription is not 1 to 64 of [a-z0-9._-]")


def check_same(stored: Subscription, topic: str, purpose: str, incarnation: bytes) -> None:
    """Raises EntenteError SUBSCRIPTION_EXISTS for another topic or purpose, CURSOR_INVALID for a topic made anew."""
    if (stored.topic, stored.purpose) != (topic, purpose):
        raise EntenteError(Reason.SUBSCRIPTION_EXISTS, stored.key.name)
    if stored.incarnation != incarnation:
        raise EntenteError(Reason.CURSOR_INVALID)


def _of(session: Session) -> dict[str, JsonValue]:
    part = stream_part(
        session.topic, session.purpose, session.binding.subscription, session.epoch, session.stream
    )
    return {"who": who(session.principal), "stream": part}
