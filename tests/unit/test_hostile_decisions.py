"""Decisions as large as a module can make them fit into the ledger's entries, so that nobody's stream ends over them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from broker.core.ledger.leaf import commit
from broker.core.ledger.writer import LARGEST_BYTES
from broker.model.decision import Decision
from tests.fakes.delivery import RELEASE, WITHHOLD, World, label_of

REASONS = tuple("\x01" * 250 + f"{number:03}" for number in range(256))
"""As many and as long as the engine's answers may have them, in characters of which JSON makes six each."""

RECORDS = 40
"""Each with labels of its own, and so a decision of its own: more than an append takes."""


@pytest.mark.parametrize("decision", [RELEASE, WITHHOLD], ids=["released", "withheld"])
async def test_endless_reasons_are_spread_over_entries(decision: Decision) -> None:
    world = World()
    large = replace(decision, reasons=REASONS)
    world.decider.answer = lambda question: large if label_of(question) == "green" else RELEASE
    for number in range(RECORDS):
        await world.store("alpha", str(number), releasableto=f"a{number}")
    await world.store("beta", "last", label="red")
    session = world.session(records=RECORDS + 1)
    try:
        expected = [str(number) for number in range(RECORDS)] if decision is RELEASE else []
        assert await world.receive(session, len(expected) + 1) == [*expected, "last"]
    finally:
        await world.close()
    sizes = [commit(entry, os.urandom(32)).size for entry in world.ledger.of("delivery")]
    assert sum(sizes) > LARGEST_BYTES, "all of them in one entry would have been too large"
    assert max(sizes) < LARGEST_BYTES / 2
