"""Where a stream that is opened begins: for a named subscription, who opens it takes it over."""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.core.cursor import CursorBinding
from broker.core.deliver.fanout import FanOut
from broker.core.evidence import Evidence
from broker.core.moves import Cause, subscription_entries
from broker.core.places import Places, StartAt
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.principal import Principal
from broker.model.record import LogTopic, Positions
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.clock import Clock
from broker.ports.subscription_store import SubscriptionStore

SUBSCRIPTION_NAME = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a client asks for when it opens a stream; `subscription` is "" for an unnamed one."""

    topic: str
    purpose: str
    subscription: str
    start: StartAt
    earliest_on_expired: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a stream begins, before retention is looked at, under which epoch, and why there."""

    positions: Positions
    epoch: int
    cause: Cause


class Claims:
    """Finds where streams begin."""

    def __init__(
        self,
        *,
        places: Places,
        store: SubscriptionStore,
        fanout: FanOut,
        evidence: Evidence,
        clock: Clock,
        limit_per_principal: int,
    ) -> None:
        self._places = places
        self._store = store
        self._fanout = fanout
        self._evidence = evidence
        self._clock = clock
        self._limit_per_principal = limit_per_principal

    async def begin(
        self, principal: Principal, request: OpenRequest, topic: LogTopic, binding: CursorBinding
    ) -> Begin:
        """The place, and for a named subscription the claim on it. Raises what `open` of a stream does."""
        if not request.subscription:
            positions = await self._places.find(topic, request.start, binding)
            return Begin(positions, 0, Cause.START)
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
    ) -> Begin:
        """Create the subscription if it is absent, check that it is this one, and take it over."""
        stored = await self._store.get(key)
        if stored is None:
            stored = await self._create(principal, key, request, topic, binding)
        check_same(stored, request.topic, request.purpose, topic.incarnation)
        cause = Cause.TAKEOVER if self._fanout.serves(key) else Cause.RESUMED
        claimed = await self._store.claim(key, self._clock.now_ms())
        if claimed is None:
            raise EntenteError(Reason.SUBSCRIPTION_NOT_FOUND, key.name)
        return Begin(claimed.positions, claimed.epoch, cause)

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
        positions = await self._places.find(topic, request.start, binding)
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
