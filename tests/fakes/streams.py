"""Whole streams without I/O: opened, refreshed, acknowledged and closed by the real use case, over the fakes of delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from broker.core.claims import OpenRequest
from broker.core.deliver.session import Session
from broker.core.places import Places, Start, StartAt
from broker.core.streams import Streams
from broker.core.subscriptions import SubscriptionDesk
from broker.errors import EpochConflict
from broker.model.record import Positions
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.subscription_store import SubscriptionStore
from tests.fakes.delivery import TOPIC, World


class MemorySubscriptions:
    """The SubscriptionStore port in memory."""

    def __init__(self) -> None:
        self.stored: dict[SubscriptionKey, Subscription] = {}

    async def create(self, subscription: Subscription) -> Subscription:
        return self.stored.setdefault(subscription.key, subscription)

    async def get(self, key: SubscriptionKey) -> Subscription | None:
        return self.stored.get(key)

    async def list(self, agency: str, subject: str) -> Sequence[Subscription]:
        mine = [key for key in self.stored if (key.agency, key.subject) == (agency, subject)]
        return [self.stored[key] for key in sorted(mine, key=lambda key: key.name)]

    async def claim(self, key: SubscriptionKey, now_ms: int) -> Subscription | None:
        return self._change(key, self.stored[key].positions) if key in self.stored else None

    async def commit(self, key: SubscriptionKey, epoch: int, positions: Positions, now_ms: int) -> None:
        if self.present_epoch(key) != epoch:
            raise EpochConflict
        kept = tuple(map(max, self.stored[key].positions, positions))
        self.stored[key] = replace(self.stored[key], positions=kept)

    async def seek(self, key: SubscriptionKey, positions: Positions, now_ms: int) -> Subscription | None:
        return self._change(key, positions) if key in self.stored else None

    async def delete(self, key: SubscriptionKey) -> bool:
        return self.stored.pop(key, None) is not None

    def present_epoch(self, key: SubscriptionKey) -> int | None:
        return self.stored[key].epoch if key in self.stored else None

    async def close(self) -> None:
        raise NotImplementedError

    def _change(self, key: SubscriptionKey, positions: Positions) -> Subscription:
        before = self.stored[key]
        self.stored[key] = replace(before, positions=positions, epoch=before.epoch + 1)
        return self.stored[key]


class StreamWorld(World):
    """A world whose streams are opened and ended as by a call, and whose subscriptions are managed as by one."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__(partitions)
        self.subscriptions = MemorySubscriptions()
        store = cast(SubscriptionStore, self.subscriptions)
        self.fanout._subscriptions = store
        places = Places(self.log, self.codec)
        self.streams = Streams(
            in_force=self.in_force,
            places=places,
            store=store,
            fanout=self.fanout,
            evidence=self.evidence,
            codec=self.codec,
            receipts=self.receipts,
            clock=self.clock,
            buffer_limit_bytes=1 << 20,
            limit_per_principal=10,
        )
        self.desk = SubscriptionDesk(
            in_force=self.in_force,
            places=places,
            store=store,
            evidence=self.evidence,
            codec=self.codec,
            clock=self.clock,
            limit_per_principal=10,
        )

    async def open(
        self,
        subject: str = "p-1",
        *,
        role: str = "reader",
        subscription: str = "",
        start: StartAt | None = None,
        records: int = 0,
        earliest_on_expired: bool = False,
    ) -> Session:
        """A stream from the beginning unless told, with credit for so many records."""
        begin = start or StartAt(place=Start.EARLIEST)
        request = OpenRequest(TOPIC, "work", subscription, begin, earliest_on_expired)
        session = await self.streams.open(self.principal(subject, role=role), request)
        if records:
            self.grant(session, records)
        return session

    async def close(self) -> None:
        """Stop everything."""
        await super().close()
        await self.streams.settle()
