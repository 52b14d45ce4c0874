"""Durable subscriptions: positions with compare-and-set by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.model.record import Positions
from broker.model.subscription import Subscription, SubscriptionKey


class SubscriptionStore(Protocol):
    """Every method raises StorageUnavailable when the store cannot answer."""

    async def create(self, subscription: Subscription) -> Subscription:
        """Store a new subscription; returns the stored one, which is the older one if the key exists.

        No epoch is ever given twice under one key: after a deletion the stored epoch lies above all earlier ones, so that
        a stream of the deleted subscription cannot acknowledge for its successor.
        """

    async def get(self, key: SubscriptionKey) -> Subscription | None:
        """The subscription, or None."""

    async def list(self, agency: str, subject: str) -> Sequence[Subscription]:
        """A principal's subscriptions by name."""

    async def claim(self, key: SubscriptionKey, now_ms: int) -> Subscription | None:
        """Take the subscription over: raise its epoch by one and return it; None if it does not exist."""

    async def commit(self, key: SubscriptionKey, epoch: int, positions: Positions, now_ms: int) -> None:
        """Store acknowledged positions, durable on return; raises EpochConflict unless `epoch` is the present one.

        A position never moves backwards here: each partition keeps the greater of the two.
        """

    async def seek(self, key: SubscriptionKey, positions: Positions, now_ms: int) -> Subscription | None:
        """Set positions, backwards too, and raise the epoch, so that an open stream's acks are refused; None if absent."""

    async def delete(self, key: SubscriptionKey) -> bool:
        """Forget it; whether it was there."""

    def present_epoch(self, key: SubscriptionKey) -> int | None:
        """The newest epoch that this instance knows, without I/O; None once deleted. For checks before each release."""

    async def close(self) -> None:
        """Release all resources; idempotent."""
