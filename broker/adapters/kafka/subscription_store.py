"""Subscriptions on Kafka: compacted topic `<prefix>.subscriptions`, one partition, followed by every instance.

A change is proposed to the log and counts if it won there (see subscription_fold). So a claim by another instance is
known to `present_epoch` as soon as the tail has read it, and whoever was overtaken decides anew on what it then reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import KEEP_FOR_GOOD, ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.flight import SendFailed
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import Entry, read_span, to_entries
from broker.adapters.kafka.subscription_fold import Proposal, SubscriptionFold, Version, parse
from broker.errors import EpochConflict, StorageUnavailable
from broker.model.record import Positions
from broker.model.subscription import Subscription, SubscriptionKey

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROPOSER_LIFE_MS = 7 * 24 * 3600 * 1000
_GARBAGE_AGE_MS = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class _Change:
    """What a decision on the present version wants: the next epoch and state."""

    epoch: int
    subscription: Subscription | None
    now_ms: int | None


class KafkaSubscriptionStore:
    """Implements the SubscriptionStore port; belongs to the event loop that opened it."""

    def __init__(self, connection: KafkaConnection, *, timeout_s: float) -> None:
        self._connection = connection
        self._topic = connection.topic("subscriptions")
        self._timeout_s = timeout_s
        self._admin = ClusterAdmin(connection)
        self._outbox = Outbox(connection, atomic=True)
        self._follower = Follower[Entry](connection, to_entries, self._arrived, name="subscriptions")
        self._fold = SubscriptionFold()
        self._read_to = 0
        self._moved = asyncio.Event()
        self._proposer = ""
        self._proposer_until_ms = -1
        self._serials = count()
        self._verdicts: dict[tuple[str, int], asyncio.Future[bool]] = {}
        self._locks: WeakValueDictionary[SubscriptionKey, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, connection: KafkaConnection, *, timeout_s: float = 10.0) -> KafkaSubscriptionStore:
        """Create the topic if it is absent and read it to its end; raises StorageUnavailable."""
        store = cls(connection, timeout_s=timeout_s)
        try:
            settings = {"cleanup.policy": "compact", "retention.ms": KEEP_FOR_GOOD}
            await store._admin.ensure_topic(store._topic, 1, settings)
            await store._outbox.start()
            await store._load()
            await store._follower.start()
            store._follower.follow({(store._topic, 0): store._read_to})
        except BaseException:
            await store.close()
            raise
        return store

    async def create(self, subscription: Subscription) -> Subscription:
        """See SubscriptionStore. After a deletion the epoch goes on from where it was."""

        def decide(present: Version) -> _Change | Subscription:
            if present.subscription is not None:
                return present.subscription
            epoch = max(subscription.epoch, present.epoch + 1)
            return _Change(epoch, replace(subscription, epoch=epoch), subscription.created_ms)

        return _existing(await self._change(subscription.key, decide))

    async def get(self, key: SubscriptionKey) -> Subscription | None:
        """See SubscriptionStore. As far as this instance has read, which covers its own changes."""
        self._check_open()
        return self._fold.present(key).subscription

    async def list(self, agency: str, subject: str) -> Sequence[Subscription]:
        """See SubscriptionStore. As far as this instance has read, which covers its own changes."""
        self._check_open()
        return self._fold.of(agency, subject)

    async def claim(self, key: SubscriptionKey, now_ms: int) -> Subscription | None:
        """See SubscriptionStore."""

        def decide(present: Version) -> _Change | None:
            held, epoch = present.subscription, present.epoch + 1
            if held is None:
                return None
            return _Change(epoch, replace(held, epoch=epoch, updated_ms=now_ms), now_ms)

        return await self._change(key, decide)

    async def commit(self, key: SubscriptionKey, epoch: int, positions: Positions, now_ms: int) -> None:
        """See SubscriptionStore. Raises ValueError for another number of partitions."""

        def decide(present: Version) -> _Change:
            held = present.subscription
            if held is None or held.epoch != epoch:
                raise EpochConflict("the subscription was taken over, moved or deleted")
            if len(positions) != len(held.positions):
                raise ValueError(f"the topic has {len(held.positions)} partitions, not {len(positions)}")
            greatest = tuple(max(pair) for pair in zip(held.positions, positions, strict=True))
            return _Change(epoch, replace(held, positions=greatest, updated_ms=now_ms), now_ms)

        await self._change(key, decide)

    async def seek(self, key: SubscriptionKey, positions: Positions, now_ms: int) -> Subscription | None:
        """See SubscriptionStore."""

        def decide(present: Version) -> _Change | None:
            held, epoch = present.subscription, present.epoch + 1
            if held is None:
                return None
            moved = replace(held, positions=positions, epoch=epoch, updated_ms=now_ms)
            return _Change(epoch, moved, now_ms)

        return await self._change(key, decide)

    async def delete(self, key: SubscriptionKey) -> bool:
        """See SubscriptionStore."""
        deleted = False

        def decide(present: Version) -> _Change | None:
            nonlocal deleted
            deleted = present.subscription is not None
            return _Change(present.epoch, None, None) if deleted else None

        await self._change(key, decide)
        return deleted

    def present_epoch(self, key: SubscriptionKey) -> int | None:
        """See SubscriptionStore. None too once the store is closed or has lost its topic, so that nothing goes out."""
        present = self._fold.present(key)
        return None if self._closed or present.subscription is None else present.epoch

    async def close(self) -> None:
        """See SubscriptionStore. Ends all threads."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._outbox.close()
        await self._follower.close()
        await self._admin.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the subscription store is closed")

    async def _change(
        self, key: SubscriptionKey, decide: Callable[[Version], _Change | Subscription | None]
    ) -> Subscription | None:
        """Decide on the present version until the decision counts; the work goes on if the caller's time runs out."""
        self._check_open()
        task = asyncio.get_running_loop().create_task(self._decide_until_it_counts(key, decide))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([task], timeout=self._timeout_s)
        if not task.done() or task.cancelled():
            raise StorageUnavailable("Kafka has not confirmed the change of a subscription; try again")
        return task.result()

    async def _decide_until_it_counts(
        self, key: SubscriptionKey, decide: Callable[[Version], _Change | Subscription | None]
    ) -> Subscription | None:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # the fold relies on one proposal at a time for each subscription and proposer
            while True:
                present = self._fold.present(key)
                change = decide(present)
                if not isinstance(change, _Change):
                    return change
                if await self._propose(key, present.number, change):
                    return change.subscription

    async def _propose(self, key: SubscriptionKey, expects: int, change: _Change) -> bool:
        """Send a proposal and wait until the tail has read it; whether it counts."""
        proposal = Proposal(
            self._proposer_at(change.now_ms),
            next(self._serials),
            expects,
            key,
            change.epoch,
            change.subscription,
        )
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._verdicts[proposal.proposer, proposal.serial] = verdict
        message = Message(proposal.log_key(), proposal.log_value(), change.now_ms)
        try:
            await self._outbox.room()
            landed = self._outbox.enqueue(self._topic, 0, [message])
            either: list[asyncio.Future[Any]] = [verdict, landed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not verdict.done() and landed.exception() is not None:
                await self._find_out(landed.exception())
                if not verdict.done():
                    raise StorageUnavailable("Kafka did not take the change of a subscription; try again")
            return await verdict
        finally:
            del self._verdicts[proposal.proposer, proposal.serial]

    async def _find_out(self, error: BaseException | None) -> None:
        """After a failure with an unknown outcome: read to the log's end; the proposal is there or never will be."""
        if isinstance(error, SendFailed) and error.stored is False:
            return
        while True:
            with contextlib.suppress(StorageUnavailable):
                (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
                while self._read_to < end:
                    self._moved.clear()
                    await self._moved.wait()
                return
            await asyncio.sleep(1.0)

    def _proposer_at(self, now_ms: int | None) -> str:
        """This instance's name in the log, another one each week, so that old names can be known to be dead."""
        if not self._proposer or (now_ms is not None and now_ms > self._proposer_until_ms):
            self._proposer = uuid.uuid4().hex
            self._proposer_until_ms = (now_ms or 0) + _PROPOSER_LIFE_MS
        return self._proposer

    async def _load(self) -> None:
        """Read the log, and delete superseded records of names that write no more."""
        (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
        ages: dict[bytes, int] = {}
        async for entry in read_span(self._connection, self._topic, 0, end):
            self._learn(entry)
            ages.pop(entry.key, None)
            if entry.value is not None:
                ages[entry.key] = entry.timestamp_ms
        newest = max(ages.values(), default=0)
        old = [key for key, time_ms in ages.items() if time_ms < newest - _GARBAGE_AGE_MS]
        garbage = [key for key in old if self._fold.holder(key) != key]
        if garbage:
            self._outbox.enqueue(self._topic, 0, [Message(key, None, newest) for key in garbage])

    def _arrived(self, news: Sequence[Batch[Entry]] | OutOfRange) -> None:
        if isinstance(news, OutOfRange):
            log.error("the subscriptions' topic lost records or was deleted; restart the broker")
            self._closed = True
            return
        for batch in news:
            for entry in batch.items:
                self._learn(entry)
            self._follower.release(batch.size)
        self._moved.set()

    def _learn(self, entry: Entry) -> None:
        self._read_to = entry.offset + 1
        if entry.value is None:
            return
        try:
            proposal = parse(entry.key, entry.value)
        except ValueError as error:
            log.error("offset %d: %s", entry.offset, error)
            return
        counts = self._fold.apply(proposal)
        verdict = self._verdicts.get((proposal.proposer, proposal.serial))
        if verdict is not None and not verdict.done():
            verdict.set_result(counts)


def _existing(found: Subscription | None) -> Subscription:
    if found is None:
        raise StorageUnavailable("the subscription vanished while it was created; try again")
    return found
