"""Opening a stream and what happens on it: start position, takeover, acknowledgements, refresh, closing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from broker.core.access import Access
from broker.core.cursor import CursorBinding, CursorCodec
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.session import Session
from broker.core.deliver.standing import Standing
from broker.core.evidence import Evidence, who
from broker.errors import EntenteError, EpochConflict, Reason, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.record import LogTopic, Positions
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.clock import Clock
from broker.ports.record_log import RecordLog
from broker.ports.subscription_store import SubscriptionStore

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
        self._clock = clock
        self._buffer_limit_bytes = buffer_limit_bytes
        self._limit_per_principal = limit_per_principal

    async def open(self, principal: Principal, request: OpenRequest) -> Session:
        """A session that is served as soon as it has credit; its opening is in the ledger.

        Raises EntenteError: see Exchange.Subscribe.
        """
        await self._access.require_subscribe(principal, request.topic, request.purpose)
        topic = self._places.log_topic(request.topic)
        binding = CursorBinding(principal.agency, principal.subject, topic.incarnation, request.subscription)
        positions, epoch = await self._position(principal, request, topic, binding)
        positions = await self._places.within_retention(
            request.topic, positions, earliest_on_expired=request.earliest_on_expired
        )
        session = Session(
            principal=principal,
            purpose=request.purpose,
            topic=request.topic,
            binding=binding,
            epoch=epoch,
            standing=Standing(positions),
            codec=self._codec,
            buffer_limit_bytes=self._buffer_limit_bytes,
            buffers=self._fanout.buffers,
        )
        await self._evidence.write("stream_opened", _stream(session))
        self._fanout.begin(session)
        return session

    async def acknowledge(self, session: Session, sealed: bytes) -> None:
        """Store the position that the cursor holds, durably; an older one changes nothing.

        Raises EntenteError CURSOR_INVALID, ACK_REFUSED (not this stream's, or taken over), STORAGE_UNAVAILABLE.
        """
        cursor = session.open_cursor(sealed)
        key = session.subscription_key
        if key is None:
            return
        try:
            await self._store.commit(key, session.epoch, cursor.positions, self._clock.now_ms())
        except EpochConflict:
            raise EntenteError(Reason.ACK_REFUSED) from None
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def refresh(self, session: Session, principal: Principal) -> None:
        """Go on under a new token of the same principal; a changed class is decided anew.

        Raises EntenteError REFRESH_REFUSED, PURPOSE_NOT_PERMITTED, POLICY_DENIED.
        """
        if principal.key != session.principal.key:
            raise EntenteError(Reason.REFRESH_REFUSED)
        try:
            await self._access.require_subscribe(principal, session.topic, session.purpose)
        except EntenteError as error:
            # An open stream tells no secret by naming its topic's owner as the one to ask.
            raise (
                EntenteError(Reason.POLICY_DENIED) if error.reason is Reason.TOPIC_NOT_FOUND else error
            ) from None
        self._fanout.remove(session)
        session.principal = principal
        self._fanout.park(session)

    async def close(self, session: Session, cause: str) -> None:
        """Serve the session no more and account for its end."""
        self._fanout.end(session)
        await self._evidence.write("stream_closed", _stream(session) | {"cause": cause})

    async def _position(
        self, principal: Principal, request: OpenRequest, topic: LogTopic, binding: CursorBinding
    ) -> tuple[Positions, int]:
        if not request.subscription:
            return await self._places.find(request.topic, request.start, binding), 0
        check_name(request.subscription)
        key = SubscriptionKey(principal.agency, principal.subject, request.subscription)
        try:
            return await self._claim(key, request, topic, binding)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def _claim(
        self, key: SubscriptionKey, request: OpenRequest, topic: LogTopic, binding: CursorBinding
    ) -> tuple[Positions, int]:
        """Create the subscription if it is absent, check that it is this one, and take it over."""
        stored = await self._store.get(key)
        if stored is None:
            if len(await self._store.list(key.agency, key.subject)) >= self._limit_per_principal:
                raise EntenteError(
                    Reason.LIMIT_EXCEEDED, f"{self._limit_per_principal} subscriptions a principal"
                )
            positions = await self._places.find(request.topic, request.start, binding)
            stored = await self._store.create(self._new(key, request, topic, positions))
        check_same(stored, request.topic, request.purpose, topic.incarnation)
        claimed = await self._store.claim(key, self._clock.now_ms())
        if claimed is None:
            raise EntenteError(Reason.SUBSCRIPTION_NOT_FOUND, key.name)
        return claimed.positions, claimed.epoch

    def _new(
        self, key: SubscriptionKey, request: OpenRequest, topic: LogTopic, positions: Positions
    ) -> Subscription:
        now = self._clock.now_ms()
        return Subscription(key, request.topic, topic.incarnation, request.purpose, positions, 0, now, now)


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


def _stream(session: Session) -> dict[str, JsonValue]:
    return {
        "who": who(session.principal),
        "topic": session.topic,
        "purpose": session.purpose,
        "subscription": session.binding.subscription,
        "epoch": session.epoch,
        "positions": list(session.standing.cursor),
    }
