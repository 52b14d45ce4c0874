"""What is in force is replaced at once, and whoever replaced it knows when nothing older can be released."""

from __future__ import annotations

import pytest

from broker.core.in_force import InForce, Order, OrderReplaced
from broker.model.overlay import Overlays


def order(name: str) -> Order[str]:
    return Order(name, Overlays())


async def test_a_replacement_is_over_at_once_where_nothing_is_in_passage() -> None:
    in_force = InForce(order("old"))
    new = order("new")
    over = in_force.replace(new)
    assert over.done()
    assert in_force.present is new


async def test_a_replacement_waits_for_what_is_in_passage_under_the_older_order() -> None:
    old = order("old")
    in_force = InForce(old)
    with in_force.passage(old):
        over = in_force.replace(order("new"))
        with in_force.passage(in_force.present):
            assert not over.done()
        assert not over.done()
    assert over.done()


async def test_nothing_passes_any_more_under_an_order_that_was_replaced() -> None:
    old = order("old")
    in_force = InForce(old)
    in_force.replace(order("new"))
    with pytest.raises(OrderReplaced), in_force.passage(old):
        pytest.fail("this must not be released")


async def test_a_failure_ends_its_passage() -> None:
    old = order("old")
    in_force = InForce(old)
    with pytest.raises(ValueError, match="the ledger"), in_force.passage(old):
        raise ValueError("the ledger")
    assert in_force.replace(order("new")).done()


async def test_the_first_of_two_replacements_waits_for_its_own_predecessors_too() -> None:
    first, second = order("first"), order("second")
    in_force = InForce(first)
    with in_force.passage(first):
        one = in_force.replace(second)
        with in_force.passage(second):
            two = in_force.replace(order("third"))
        assert not one.done()
        assert not two.done()
    assert one.done()
    assert two.done()
