"""An owner without decisions stalls its own records only; nothing is skipped, doubled, or acknowledged too far."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.core.decide import Question
from broker.core.deliver import group, standing
from broker.core.deliver.standing import Lag
from broker.model.decision import Decision
from tests.fakes.delivery import RELEASE, World, owner_of

pytestmark = pytest.mark.usefixtures("quick_groups")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(partitions=2)
    yield made
    await made.close()


class Silent:
    """Owners that have no decision now."""

    def __init__(self, *owners: str) -> None:
        self.owners = set(owners)

    def __call__(self, question: Question) -> Decision | None:
        return None if owner_of(question) in self.owners else RELEASE


async def test_only_its_own_records_wait(world: World) -> None:
    world.decider.answer = silent = Silent("alpha")
    for number, owner in enumerate(["beta", "alpha", "beta", "alpha", "beta"]):
        await world.store(owner, f"{owner}-{number}")
    session = world.session(records=100)
    assert await world.receive(session, 3) == ["beta-0", "beta-2", "beta-4"]
    assert session.standing.cursor == (1, 0)
    assert session.standing.next == (5, 0)
    assert session.standing.lags == (Lag(0, "alpha", 1),)
    silent.owners.clear()
    assert await world.receive(session, 2) == ["alpha-1", "alpha-3"]
    assert session.standing.cursor == (5, 0)
    assert session.standing.lags == ()


async def test_others_go_on_while_it_waits(world: World) -> None:
    world.decider.answer = Silent("alpha")
    session = world.session(records=100)
    await world.store("alpha", "a")
    for number in range(5):
        await world.store("beta", str(number))
        assert await world.receive(session, 1) == [str(number)]
    assert session.standing.cursor == (0, 0)


async def test_it_waits_by_partition(world: World) -> None:
    world.decider.answer = silent = Silent("alpha")
    await world.store("alpha", "a0", partition=0)
    await world.store("beta", "b0", partition=0)
    await world.store("beta", "b1", partition=1)
    await world.store("alpha", "a1", partition=1)
    session = world.session(records=100)
    assert sorted(await world.receive(session, 2)) == ["b0", "b1"]
    assert session.standing.cursor == (0, 1)
    silent.owners.clear()
    assert sorted(await world.receive(session, 2)) == ["a0", "a1"]


async def test_a_stream_that_resumes_from_the_cursor_gets_the_undecided_again(world: World) -> None:
    world.decider.answer = silent = Silent("alpha")
    for owner in ("beta", "alpha", "beta"):
        await world.store(owner, f"{owner}-{len(world.log.records[0])}")
    session = world.session(records=100)
    assert await world.receive(session, 2) == ["beta-0", "beta-2"]
    cursor = session.open_cursor(session.cursor()).positions
    world.fanout.end(session)
    silent.owners.clear()
    resumed = world.session(records=100, standing=standing.Standing(cursor))
    assert await world.receive(resumed, 2) == ["alpha-1", "beta-2"]


async def test_a_cut_of_credit_in_the_catch_up_keeps_the_order(world: World) -> None:
    world.decider.answer = silent = Silent("alpha")
    for number in range(6):
        await world.store("alpha", str(number))
    session = world.session(records=2)
    await world.idle()
    silent.owners.clear()
    assert await world.receive(session, 2) == ["0", "1"]
    assert session.standing.cursor == (2, 0)
    world.grant(session, 3)
    assert await world.receive(session, 3) == ["2", "3", "4"]
    world.grant(session, 3)
    assert await world.receive(session, 1) == ["5"]


async def test_when_too_many_lag_the_partition_waits_and_the_broker_does_not_spin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "MAX_LAGS", 1)
    monkeypatch.setattr(group, "BACKOFF_S", (0.05, 0.05))
    world.decider.answer = silent = Silent("alpha", "beta")
    await world.store("alpha", "a", partition=0)
    await world.store("beta", "b", partition=0)
    await world.store("gamma", "c", partition=0)
    await world.store("gamma", "d", partition=1)
    session = world.session(records=100)
    assert await world.receive(session, 1) == ["d"]
    await world.idle()
    calls = world.decider.calls
    silent.owners = {"beta"}
    assert await world.receive(session, 2) == ["a", "c"]
    assert world.decider.calls - calls < 10
    silent.owners.clear()
    assert await world.receive(session, 1) == ["b"]
    assert session.standing.cursor == (3, 1)
