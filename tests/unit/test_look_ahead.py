"""What may be activated next is checked beforehand, each revision by itself."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import cast

from broker.app.control import _look_ahead
from broker.app.rulebook import RulebookDoor
from broker.core.control.news import News
from broker.core.control.runtime import ControlRuntime


class _FullDisk:
    """Checks write to a directory of their own; the first one finds no room there."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.both = asyncio.Event()

    async def look_ahead(self, revision_id: str) -> None:
        self.asked.append(revision_id)
        if len(self.asked) == 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.both.set()


def _accepted(revision: str) -> SimpleNamespace:
    return SimpleNamespace(
        revision=revision, parent="r1", check=SimpleNamespace(accepted=True), rejected=None
    )


async def test_a_check_that_finds_no_disk_space_ends_no_later_ones() -> None:
    proposals = SimpleNamespace(by_id={"p2": _accepted("r2"), "p3": _accepted("r3")})
    runtime = SimpleNamespace(
        state=SimpleNamespace(proposals=proposals, activations=SimpleNamespace(revision="r1")),
        news=News(),
        settings=SimpleNamespace(beat_s=60.0),
    )
    door = _FullDisk()
    looking = asyncio.ensure_future(_look_ahead(cast(ControlRuntime, runtime), cast(RulebookDoor, door)))
    both = asyncio.ensure_future(door.both.wait())
    await asyncio.wait([looking, both], return_when=asyncio.FIRST_COMPLETED)
    assert door.asked == ["r2", "r3"]
    assert not looking.done()
    for task in (looking, both):
        task.cancel()
    await asyncio.gather(looking, both, return_exceptions=True)
