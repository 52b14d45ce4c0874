"""The contract of the subscription store, which every backend keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.errors import EpochConflict
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.subscription_store import SubscriptionStore
from tests.contract.backend import Backend
from tests.contract.samples import START_MS, subscription

NOW_MS = START_MS + 5_000
UNKNOWN = SubscriptionKey("ems", "p-1", "unknown")


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[SubscriptionStore]:
    opened = await backend.open_subscription_store()
    yield opened
    await opened.close()


async def claimed(store: SubscriptionStore, key: SubscriptionKey) -> Subscription:
    found = await store.claim(key, NOW_MS)
    assert found is not None
    return found


async def test_a_new_subscription_is_stored_as_given(store: SubscriptionStore) -> None:
    new = subscription(positions=(3, 0))
    assert await store.create(new) == new
    assert await store.get(new.key) == new
    assert store.present_epoch(new.key) == new.epoch


async def test_creating_again_returns_the_older_one(store: SubscriptionStore) -> None:
    old = await store.create(subscription())
    other = replace(old, topic="other", purpose="cyber-defence", positions=(9, 9), created_ms=NOW_MS)
    assert await store.create(other) == old
    assert await store.get(old.key) == old


async def test_of_concurrent_creations_one_wins(store: SubscriptionStore) -> None:
    candidates = [subscription(positions=(n, n)) for n in range(10)]
    results = await asyncio.gather(*(store.create(candidate) for candidate in candidates))
    assert len(set(results)) == 1
    assert await store.get(candidates[0].key) == results[0]


async def test_an_unknown_subscription_is_nothing(store: SubscriptionStore) -> None:
    assert await store.get(UNKNOWN) is None
    assert await store.claim(UNKNOWN, NOW_MS) is None
    assert await store.seek(UNKNOWN, (0, 0), NOW_MS) is None
    assert await store.delete(UNKNOWN) is False
    assert store.present_epoch(UNKNOWN) is None
    with pytest.raises(EpochConflict):
        await store.commit(UNKNOWN, 0, (0, 0), NOW_MS)


async def test_a_principal_lists_its_own_by_name(store: SubscriptionStore) -> None:
    for name in ("b", "c", "a"):
        await store.create(subscription(name))
    await store.create(subscription("z", subject="p-2"))
    await store.create(subscription("z", agency="transport"))
    assert [found.key.name for found in await store.list("ems", "p-1")] == ["a", "b", "c"]
    assert [found.key.name for found in await store.list("ems", "p-2")] == ["z"]
    assert list(await store.list("ems", "nobody")) == []


async def test_names_of_different_principals_never_meet(store: SubscriptionStore) -> None:
    """Agency, subject and name are joined without ambiguity, whatever characters they hold."""
    keys = [
        ("a", "b", "c"),
        ("a/b", "c", ""),
        ("a", "b/c", ""),
        ("a\x00b", "c", "d"),
        ("a", "b\x00c", "d"),
        ("", "a", "b:c"),
    ]
    for number, (agency, subject, name) in enumerate(keys):
        new = subscription(name, agency=agency, subject=subject, positions=(number, 0))
        assert await store.create(new) == new
    for number, (agency, subject, name) in enumerate(keys):
        found = await store.get(SubscriptionKey(agency, subject, name))
        assert found is not None
        assert found.positions == (number, 0)


class TestEpochs:
    async def test_a_claim_raises_the_epoch_by_one(self, store: SubscriptionStore) -> None:
        new = await store.create(subscription())
        first, second = await claimed(store, new.key), await claimed(store, new.key)
        assert (first.epoch, second.epoch) == (new.epoch + 1, new.epoch + 2)
        assert second == replace(new, epoch=second.epoch, updated_ms=NOW_MS)
        assert store.present_epoch(new.key) == second.epoch

    async def test_concurrent_claims_get_different_epochs(self, store: SubscriptionStore) -> None:
        new = await store.create(subscription())
        claims = await asyncio.gather(*(claimed(store, new.key) for _ in range(20)))
        assert sorted(claim.epoch for claim in claims) == list(range(new.epoch + 1, new.epoch + 21))
        assert store.present_epoch(new.key) == new.epoch + 20

    async def test_a_commit_stores_positions(self, store: SubscriptionStore) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        await store.commit(held.key, held.epoch, (5, 7), NOW_MS + 1)
        assert await store.get(held.key) == replace(held, positions=(5, 7), updated_ms=NOW_MS + 1)

    @pytest.mark.parametrize("lag", [-1, 1, 2])
    async def test_a_commit_with_another_epoch_is_refused(self, store: SubscriptionStore, lag: int) -> None:
        new = await store.create(subscription())
        await claimed(store, new.key)
        held = await claimed(store, new.key)
        with pytest.raises(EpochConflict):
            await store.commit(held.key, held.epoch - lag, (5, 7), NOW_MS)
        assert await store.get(held.key) == held

    async def test_positions_never_go_back_in_a_commit(self, store: SubscriptionStore) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        await store.commit(held.key, held.epoch, (5, 7), NOW_MS)
        await store.commit(held.key, held.epoch, (9, 2), NOW_MS)
        found = await store.get(held.key)
        assert found is not None
        assert found.positions == (9, 7)

    async def test_a_commit_with_another_number_of_partitions_is_refused(
        self, store: SubscriptionStore
    ) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        for positions in ((5,), (5, 7, 9), ()):
            with pytest.raises(ValueError, match="partitions"):
                await store.commit(held.key, held.epoch, positions, NOW_MS)
        assert await store.get(held.key) == held

    async def test_a_seek_goes_back_and_raises_the_epoch(self, store: SubscriptionStore) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        await store.commit(held.key, held.epoch, (5, 7), NOW_MS)
        moved = await store.seek(held.key, (1, 2), NOW_MS + 9)
        assert moved == replace(held, positions=(1, 2), epoch=held.epoch + 1, updated_ms=NOW_MS + 9)
        assert store.present_epoch(held.key) == held.epoch + 1
        with pytest.raises(EpochConflict):
            await store.commit(held.key, held.epoch, (8, 8), NOW_MS)
        assert await store.get(held.key) == moved

    async def test_concurrent_commits_keep_the_greatest(self, store: SubscriptionStore) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        await asyncio.gather(*(store.commit(held.key, held.epoch, (n, 30 - n), NOW_MS) for n in range(31)))
        found = await store.get(held.key)
        assert found is not None
        assert found.positions == (30, 30)


class TestDeletion:
    async def test_a_deleted_subscription_is_gone(self, store: SubscriptionStore) -> None:
        held = await claimed(store, (await store.create(subscription())).key)
        assert await store.delete(held.key) is True
        assert await store.delete(held.key) is False
        assert await store.get(held.key) is None
        assert list(await store.list("ems", "p-1")) == []
        assert store.present_epoch(held.key) is None
        with pytest.raises(EpochConflict):
            await store.commit(held.key, held.epoch, (5, 7), NOW_MS)

    async def test_a_stream_of_a_deleted_one_cannot_commit_to_its_successor(self, backend: Backend) -> None:
        """An epoch is never given twice under one name, or a stale stream's acks would move another subscription."""
        store = await backend.open_subscription_store()
        stale = await claimed(store, (await store.create(subscription())).key)
        await store.delete(stale.key)
        await store.close()
        store = await backend.open_subscription_store()
        await store.create(subscription())
        held = await claimed(store, stale.key)
        assert held.epoch > stale.epoch
        with pytest.raises(EpochConflict):
            await store.commit(stale.key, stale.epoch, (5, 7), NOW_MS)
        await store.close()


async def test_everything_survives_reopening(backend: Backend) -> None:
    store = await backend.open_subscription_store()
    held = await claimed(store, (await store.create(subscription())).key)
    await store.commit(held.key, held.epoch, (5, 7), NOW_MS)
    await store.create(subscription("gone"))
    await store.delete(subscription("gone").key)
    await store.close()
    await store.close()
    store = await backend.open_subscription_store()
    assert store.present_epoch(held.key) == held.epoch
    assert store.present_epoch(subscription("gone").key) is None
    assert await store.get(held.key) == replace(held, positions=(5, 7))
    await store.commit(held.key, held.epoch, (6, 7), NOW_MS)
    await store.close()
