"""Records that take long to encode, or come when it is the turn of others, keep their place and go out once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from broker.core.decide import Question
from broker.core.record.examination import LARGE_BYTES, TURN_BYTES
from broker.model.decision import Decision, Effect
from tests.fakes.delivery import RELEASE, World, label_of


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def test_a_large_record_goes_out_once_and_in_its_place(world: World) -> None:
    names = ["before", "x" * LARGE_BYTES, "after"]
    for name in names:
        await world.store("alpha", name)
    assert await world.receive(world.session(records=10), 3) == names
    assert world.ledger.released() == [(0, 0), (0, 1), (0, 2)]


async def test_small_records_that_give_others_their_turn_go_out_once_and_in_their_order(world: World) -> None:
    names = [f"{number:04}{'x' * 3_000}" for number in range(4 * TURN_BYTES // 6_000)]
    for name in names:
        await world.store("alpha", name)
    session = world.session(records=1_000)
    assert await world.receive(session, len(names)) == names
    assert world.ledger.released() == [(0, offset) for offset in range(len(names))]


@pytest.mark.parametrize("size", [1, LARGE_BYTES], ids=["small", "large"])
async def test_what_cannot_be_redacted_is_withheld_whole_whatever_its_size(world: World, size: int) -> None:
    def answer(question: Question) -> Decision:
        return RELEASE if label_of(question) == "green" else Decision(Effect.RELEASE, {})

    world.decider.answer = answer
    await world.store("alpha", "before")
    await world.store("alpha", "s" * size, label="red")
    await world.store("alpha", "after")
    assert await world.receive(world.session(records=10), 2) == ["before", "after"]
    (entry,) = world.ledger.of("delivery")
    considered = cast(list[Any], entry.body["considered"])
    assert [each["outcomes"] for each in considered] == [{"release": 2, "unredactable": 1}]
