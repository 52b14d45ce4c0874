"""Streams of who is suspended: nothing reaches them from the change on, and they are told a little later, in turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.core.deliver.endings import AT_ONCE, Endings
from broker.core.deliver.session import Session
from broker.errors import EntenteError, Reason
from broker.model.overlay import Suspension, SuspensionKind
from tests.fakes.delivery import World

pytestmark = pytest.mark.usefixtures("quick_groups")

CONSUMERS = Suspension("s1", SuspensionKind.AGENCY, "consumer", None, "why", "exchange", "admin", 0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def opened(world: World, subject: str, agency: str = "consumer") -> Session:
    session = world.session(subject, agency=agency, records=100)
    world.fanout.begin(session)
    return session


async def test_what_a_suspended_stream_has_queued_is_never_written_though_it_is_told_later(
    world: World,
) -> None:
    session, other = opened(world, "p-1"), opened(world, "p-2", "other")
    await world.store("alpha", "queued")
    await world.idle()
    assert world.ledger.released() == [(0, 0)] * 2, "both were to be handed it"
    over = world.restrict(CONSUMERS)
    assert not session.is_open and await session.next() is None
    assert session.failure is not None and session.failure.reason is Reason.SUSPENDED
    assert over.done(), "whoever suspends waits for no stream to be told"
    assert await world.receive(other, 1) == ["queued"]


async def test_a_suspended_stream_that_waits_for_records_is_told_and_gets_none(world: World) -> None:
    sessions = [opened(world, f"p-{number}") for number in range(2 * AT_ONCE + 1)]
    waiting = [asyncio.ensure_future(session.next()) for session in sessions]
    await world.idle()
    world.restrict(CONSUMERS)
    await world.store("alpha", "later")
    assert await asyncio.wait_for(asyncio.gather(*waiting), 60) == [None] * len(sessions)
    assert {each.failure.reason for each in sessions if each.failure is not None} == {Reason.SUSPENDED}
    assert world.ledger.of("delivery") == []


async def test_a_stream_that_ends_otherwise_before_it_is_told_keeps_the_first_reason(world: World) -> None:
    session = opened(world, "p-1")
    endings = Endings()
    endings.add([(session, EntenteError(Reason.SUSPENDED))])
    session.fail(EntenteError(Reason.TOKEN_EXPIRED))
    assert await asyncio.wait_for(session.next(), 60) is None
    assert session.failure is not None and session.failure.reason is Reason.SUSPENDED
    await endings.close()
    await endings.close()
