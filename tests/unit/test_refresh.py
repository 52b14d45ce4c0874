"""A refreshed token is for the same principal, and the rulebook is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from broker.core.places import Places
from broker.core.streams import Streams
from broker.errors import EntenteError
from broker.ports.subscription_store import SubscriptionStore
from tests.fakes.delivery import WITHHOLD, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.fixture
def streams(world: World) -> Streams:
    return Streams(
        in_force=world.in_force,
        places=Places(world.log, world.codec),
        store=cast(SubscriptionStore, world.epochs),
        fanout=world.fanout,
        evidence=world.evidence,
        codec=world.codec,
        receipts=world.receipts,
        clock=world.clock,
        buffer_limit_bytes=1 << 20,
        limit_per_principal=1,
    )


async def test_a_stream_that_is_no_longer_permitted_is_told_so(world: World, streams: Streams) -> None:
    session = world.session(records=1)
    world.decider.answer = lambda _: WITHHOLD
    with pytest.raises(EntenteError) as refused:
        await streams.refresh(session, world.principal("p-1"))
    assert refused.value.reason.name == "POLICY_DENIED"


async def test_a_permitted_stream_goes_on_under_the_new_token(world: World, streams: Streams) -> None:
    session = world.session(records=1)
    renewed = replace(world.principal("p-1"), token_id="another")
    await streams.refresh(session, renewed)
    await world.store("alpha", "0")
    assert await world.receive(session, 1) == ["0"]
    assert session.principal.token_id == "another"


async def test_another_principal_cannot_take_a_stream_over(world: World, streams: Streams) -> None:
    with pytest.raises(EntenteError) as refused:
        await streams.refresh(world.session(records=1), world.principal("p-2"))
    assert refused.value.reason.name == "REFRESH_REFUSED"
