"""A record that the rulebook has no answer for on a healthy engine is withheld, and where it stands is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.core.decide import ENGINE_FAULT, Question
from broker.core.deliver import collect, group
from broker.model.decision import Decision, Effect
from tests.fakes.delivery import RELEASE, World, owner_of

FAULT = Decision(Effect.WITHHOLD, reasons=(ENGINE_FAULT,))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(group, "BACKOFF_S", (0.001, 0.004))
    monkeypatch.setattr(collect, "LINGER_S", 0.0)
    made = World()
    yield made
    await made.close()


def faulty(question: Question) -> Decision:
    """The owner "alpha" has a broken module."""
    return FAULT if owner_of(question) == "alpha" else RELEASE


async def test_its_place_is_in_the_ledger_before_anything_after_it_is_released(world: World) -> None:
    world.decider.answer = faulty
    world.ledger.failures = 1  # the position must not move past it without the entry
    for number, owner in enumerate(["beta", "alpha", "beta"]):
        await world.store(owner, str(number))
    session = world.session(records=10)
    assert await world.receive(session, 2) == ["0", "2"]
    kinds = [entry.kind for entry in world.ledger.entries]
    assert kinds == ["engine_fault", "delivery"]
    assert world.ledger.entries[0].body["faulted"] == [[0, 1]]


async def test_a_stream_from_its_place_delivers_it_once_the_rulebook_answers(world: World) -> None:
    world.decider.answer = faulty
    await world.store("alpha", "0")
    await world.store("beta", "1")
    assert await world.receive(world.session(records=10), 1) == ["1"]
    world.decider.answer = lambda _: RELEASE
    assert await world.receive(world.session("p-2", records=10), 2) == ["0", "1"]
