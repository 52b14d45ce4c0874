"""Managing the caller's durable subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from broker.core.claims import check_name, check_same
from broker.core.cursor import Cursor, CursorBinding, CursorCodec
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.moves import subscription_entries
from broker.core.places import Places, StartAt
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.principal import Principal
from broker.model.record import LogTopic, Positions
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.clock import Clock
from broker.ports.subscription_store import SubscriptionStore

T = TypeVar("T")


class SubscriptionDesk:
    """Create, get, list, delete and seek; another principal's subscriptions are answered like missing ones.

    Every method raises EntenteError STORAGE_UNAVAILABLE, and those that change something LEDGER_UNAVAILABLE.
    """

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        places: Places,
        store: SubscriptionStore,
        evidence: Evidence,
        codec: CursorCodec,
        clock: Clock,
        limit_per_principal: int,
    ) -> None:
        self._in_force = in_force
        self._places = places
        self._store = store
        self._evidence = evidence
        self._codec = codec
        self._clock = clock
        self._limit = limit_per_principal

    async def create(
        self, principal: Principal, name: str, topic: str, purpose: str, start: StartAt
    ) -> Subscription:
        """The stored subscription; an equal one that exists is returned. Raises as Subscriptions.CreateSubscription."""
        regime = self._in_force.present.regime
        await regime.access.require_subscribe(principal, topic, purpose)
        check_name(name)
        mine = {stored.key.name: stored for stored in await self.list(principal)}
        if len(mine) >= self._limit and name not in mine:
            raise EntenteError(Reason.LIMIT_EXCEEDED, f"{self._limit} subscriptions a principal")
        log_topic = regime.topics[topic]
        key = SubscriptionKey(principal.agency, principal.subject, name)
        positions = await self._find(log_topic, start, key)
        now = self._clock.now_ms()
        new = Subscription(key, topic, log_topic.incarnation, purpose, positions, 0, now, now)
        beginning = None if name in mine else positions
        await self._evidence.write_all(
            subscription_entries(self._evidence, principal, "create", new, to=beginning)
        )
        stored = await _stored(self._store.create(new))
        check_same(stored, topic, purpose, log_topic.incarnation)
        return stored

    async def get(self, principal: Principal, name: str) -> Subscription:
        """One subscription; raises SUBSCRIPTION_NOT_FOUND."""
        stored = await _stored(self._store.get(SubscriptionKey(principal.agency, principal.subject, name)))
        if stored is None:
            raise EntenteError(Reason.SUBSCRIPTION_NOT_FOUND, _shown(name))
        return stored

    async def list(self, principal: Principal) -> Sequence[Subscription]:
        """The caller's subscriptions by name."""
        return await _stored(self._store.list(principal.agency, principal.subject))

    async def delete(self, principal: Principal, name: str) -> None:
        """Forget it; an open stream on it ends. Raises SUBSCRIPTION_NOT_FOUND."""
        stored = await self.get(principal, name)
        await self._evidence.write_all(subscription_entries(self._evidence, principal, "delete", stored))
        await _stored(self._store.delete(stored.key))

    async def seek(self, principal: Principal, name: str, start: StartAt) -> Subscription:
        """Move it; an open stream on it ends. Raises as Subscriptions.SeekSubscription."""
        stored = await self.get(principal, name)
        regime = self._in_force.present.regime
        await regime.access.require_subscribe(principal, stored.topic, stored.purpose)
        topic = regime.topics[stored.topic]
        check_same(stored, stored.topic, stored.purpose, topic.incarnation)
        positions = await self._find(topic, start, stored.key)
        await self._evidence.write_all(
            subscription_entries(self._evidence, principal, "seek", stored, stored.positions, positions)
        )
        moved = await _stored(self._store.seek(stored.key, positions, self._clock.now_ms()))
        if moved is None:
            raise EntenteError(Reason.SUBSCRIPTION_NOT_FOUND, _shown(name))
        return moved

    async def _find(self, topic: LogTopic, start: StartAt, key: SubscriptionKey) -> Positions:
        """The positions; a cursor may be the subscription's own or that of its principal's stream without a name."""
        try:
            return await self._places.find(topic, start, self._binding(key, topic.incarnation))
        except EntenteError as refused:
            if refused.reason is not Reason.CURSOR_INVALID:
                raise
        unnamed = CursorBinding(key.agency, key.subject, topic.incarnation)
        return await self._places.find(topic, start, unnamed)

    def cursor(self, subscription: Subscription) -> bytes:
        """A fresh cursor of its acknowledged position."""
        binding = self._binding(subscription.key, subscription.incarnation)
        return self._codec.seal(Cursor(subscription.positions, subscription.epoch), binding.associated_data())

    def _binding(self, key: SubscriptionKey, incarnation: bytes) -> CursorBinding:
        return CursorBinding(key.agency, key.subject, incarnation, key.name)


async def _stored(call: Awaitable[T]) -> T:
    try:
        return await call
    except StorageUnavailable:
        raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None


def _shown(name: str) -> str:
    """The name as the caller sent it, if it could be one; else a placeholder, so that no text is echoed unchecked."""
    try:
        check_name(name)
    except EntenteError:
        return "(not a name)"
    return name
