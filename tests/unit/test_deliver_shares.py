"""No agency can take the room that all streams share: one whose streams are not read stops itself only (design rule 8)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.core.deliver import collect
from broker.core.deliver.standing import Standing
from tests.fakes.delivery import World


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "LINGER_S", 0.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(buffer_limit_bytes=8_000)
    yield made
    await made.close()


async def test_streams_that_nobody_reads_leave_room_for_another_agency(world: World) -> None:
    for number in range(200):
        await world.store("alpha", str(number))
    hostile = []
    for number in range(10):
        hostile.append(world.session(f"h-{number}", agency="hostile", role=f"r{number}", records=1_000))
        await world.idle()
    assert world.fanout.buffers.used_bytes > 0
    behaved = world.session("b", agency="behaved", records=20)
    assert await world.receive(behaved, 20) == [str(number) for number in range(20)]
    assert all(session.failure is None for session in hostile)


async def test_a_stream_that_found_no_room_goes_on_when_another_agency_frees_some(world: World) -> None:
    unread = world.session("u", agency="unread", records=1_000)
    for number in range(200):
        await world.store("alpha", str(number))
    await world.idle()
    waiting = world.session("w", agency="waiting", records=1_000)
    await world.idle()
    taken = world.fanout.buffers.used_bytes
    while (outgoing := unread._outbox.popleft() if unread._outbox else None) is not None:
        world.fanout.written(unread, outgoing)
        await world.idle()
    assert world.fanout.buffers.used_bytes <= taken
    assert await world.receive(waiting, 200) == [str(number) for number in range(200)]


async def test_groups_of_one_class_share_what_they_have_learned(world: World) -> None:
    for number in range(4):
        await world.store("alpha", str(number))
    ahead = world.session("p-1", records=10, standing=Standing((4,)))
    behind = world.session("p-2", records=10)
    (groups,) = world.fanout._groups.values()
    assert len(groups) == 2
    assert groups[0]._lens(world.in_force.present) is groups[1]._lens(world.in_force.present)
    assert await world.receive(behind, 4) == ["0", "1", "2", "3"]
    await world.store("alpha", "4")
    assert await world.receive(ahead, 1) == ["4"]
