"""Subscriptions: a named, durable position of one principal on one topic for one purpose."""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.record import Positions


@dataclass(frozen=True, slots=True)
class SubscriptionKey:
    """Identifies a subscription; names are the principal's own, so nobody sees another's."""

    agency: str
    subject: str
    name: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """A stored subscription.

    positions: acknowledged, the next offset to deliver for each partition.
    epoch: grows by one with each stream that opens it and each seek; acknowledgements of an older one are refused.
    """

    key: SubscriptionKey
    topic: str
    incarnation: bytes
    purpose: str
    positions: Positions
    epoch: int
    created_ms: int
    updated_ms: int
