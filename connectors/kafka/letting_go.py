"""How a task gives partitions up when its consumer group is divided anew: finished, committed, and only then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.future import Future

from connectors.kafka.group import stamped

log = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]
Tell = Callable[[Callable[[], None]], bool]
"""Has the owner's event loop do something, from another thread; False if that loop is closed."""


class Owner(Protocol):
    """Who deals with what a reader takes; called in its event loop."""

    def let_go(self, partitions: Collection[TopicPartition], done: Callable[[Offsets], None]) -> None:
        """Begin nothing more of these; call `done` with what may be committed, once it is or cannot be waited for."""
        ...

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """They belong to somebody else now."""
        ...


def tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> bool:
    """A Tell, with the loop bound."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        return False
    return True


@dataclass(slots=True)
class Membership:
    """What rebalances leave for the reader's thread, during whose polls they happen.

    joined: whether partitions were given out once, perhaps none. fresh: those whose place is to be found before anything
    is taken of them.
    """

    joined: bool = False
    fresh: set[TopicPartition] = field(default_factory=set)


class Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """Called in kafka-python's own thread, during a poll or when the consumer is closed; heartbeats go on meanwhile."""

    def __init__(
        self,
        consumer: Any,
        topic_ids: Mapping[str, str],
        membership: Membership,
        told: Tell,
        owner: Owner,
    ) -> None:
        self._consumer = consumer
        self._topic_ids = topic_ids
        self._membership = membership
        self._tell = told
        self._owner = owner

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take nothing of them until their place is known."""
        self._consumer.pause(*assigned)
        self._membership.joined = True
        self._membership.fresh.update(assigned)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for what is under way, commit it, and let them go."""
        if not revoked:
            return
        settled = Future()
        if not self._tell(partial(self._owner.let_go, revoked, partial(self._settle, settled))):
            return
        offsets = await settled
        try:
            if offsets:
                await self._consumer.commit_async(stamped(offsets, self._topic_ids))
        except KafkaError as error:
            log.info("offsets of revoked partitions: %s; those records come again", type(error).__name__)
        await self.on_partitions_lost(revoked)

    async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Others may have them already."""
        self._membership.fresh.difference_update(lost)
        self._tell(partial(self._owner.forget, lost))

    def _settle(self, settled: Future, offsets: Offsets) -> None:
        """From the owner's event loop: kafka-python's awaits its futures in its own thread only."""
        try:
            self._consumer._net.call_soon_threadsafe(lambda: settled.success(offsets))
        except RuntimeError:
            return  # closed meanwhile: nobody waits
