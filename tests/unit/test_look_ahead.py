"""What may be activated next is checked beforehand and held ready, each revision by itself."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from broker.app.ahead import LookAhead
from broker.app.engines import Engines
from broker.app.rulebook import RulebookDoor
from broker.core.control.news import News
from broker.core.control.runtime import ControlRuntime
from broker.core.rulebook.proposals import Signed


class Door:
    """Checks write to a directory of their own; the first one finds no room there. slow: they last until this is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.changed = asyncio.Event()
        self.slow: asyncio.Event | None = None

    async def look_ahead(self, revision_id: str) -> None:
        self.asked.append(revision_id)
        self.changed.set()
        if self.slow is not None:
            await self.slow.wait()
        if len(self.asked) == 1:
            raise OSError(errno.ENOSPC, "no space left on device")


class Held:
    """What engines are wanted for, each time that is told."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, ...]] = []
        self.changed = asyncio.Event()

    def hold(self, wanted: Sequence[str]) -> None:
        self.wanted.append(tuple(wanted))
        self.changed.set()


class World:
    """A runtime whose state a test replaces, and what follows it."""

    def __init__(self) -> None:
        self.door, self.held = Door(), Held()
        self.runtime = SimpleNamespace(news=News(), settings=SimpleNamespace(beat_s=60.0))

    def state(self, *proposals: SimpleNamespace, before: Sequence[str] = ()) -> None:
        """What is proposed; `r1` is in force, after what was before."""
        history = [SimpleNamespace(revision=each, proposal=None) for each in (*before, "r1")]
        self.runtime.state = SimpleNamespace(
            proposals=SimpleNamespace(by_id={each.id: each for each in proposals}),
            activations=SimpleNamespace(revision="r1", history=history),
        )
        self.runtime.news.tell()

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[asyncio.Task[None]]:
        ahead = LookAhead(cast(RulebookDoor, self.door), cast(Engines, self.held))
        following = asyncio.ensure_future(ahead.follow(cast(ControlRuntime, self.runtime)))
        try:
            yield following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def accepted(number: int, *, approved: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        id=f"p{number}",
        revision=f"r{number}",
        parent="r1",
        check=SimpleNamespace(accepted=True),
        rejected=None,
        approvals=(Signed(("exchange", "b"), 0),) if approved else (),
    )


async def until(changed: asyncio.Event, holds: Any) -> None:
    async with asyncio.timeout(30):
        while not holds():
            changed.clear()
            await changed.wait()


async def test_a_check_that_finds_no_disk_space_ends_no_later_ones() -> None:
    world = World()
    world.state(accepted(2), accepted(3))
    async with world.followed() as following:
        await until(world.door.changed, lambda: world.door.asked == ["r2", "r3"])
        assert not following.done()
    assert world.held.wanted == [()]


async def test_what_is_approved_and_what_was_before_are_held_ready_at_once_and_nothing_else() -> None:
    world = World()
    world.state(accepted(2), before=["r0"])
    async with world.followed():
        await until(world.held.changed, lambda: world.held.wanted == [("r0",)])
        await until(world.door.changed, lambda: world.door.asked == ["r2"])
        world.state(accepted(2, approved=True), before=["r0"])
        await until(world.held.changed, lambda: world.held.wanted[-1] == ("r2", "r0"))
        world.state()
        await until(world.held.changed, lambda: world.held.wanted[-1] == ())
    assert world.door.asked == ["r2"]


async def test_a_change_while_something_is_checked_is_not_missed() -> None:
    world = World()
    world.door.slow = asyncio.Event()
    world.state(accepted(2))
    async with world.followed():
        await until(world.door.changed, lambda: world.door.asked == ["r2"])
        world.state(accepted(2, approved=True))
        world.door.slow.set()
        await until(world.held.changed, lambda: world.held.wanted[-1] == ("r2",))
