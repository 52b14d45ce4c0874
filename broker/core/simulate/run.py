"""Simulates: what was recorded, what is stored and what could be, decided under two revisions and compared.

Nobody receives anything: the trials decide, and no record is read beyond its labels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.core.simulate.combinations import Choice, touched_agencies
from broker.core.simulate.model import Combination, Outcome, Side, Simulation
from broker.core.simulate.outcomes import Outcomes
from broker.core.simulate.stored import Stored
from broker.core.simulate.summary import Decided, Summary
from broker.core.simulate.traffic import Traffic
from broker.model.audit import Progress, ProgressCallback

MOST_COMBINATIONS = 50_000
"""Combinations that are decided under each revision, at a fifth to half of a millisecond each."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is decided again. stored: None if nobody looked. owner: the agency whose records it is about, None for all."""

    traffic: Traffic
    stored: Stored | None
    owner: str | None = None
    notes: tuple[str, ...] = ()


async def simulate(
    before: Side,
    after: Side,
    material: Material,
    now: datetime,
    *,
    limit: int = MOST_COMBINATIONS,
    progress: ProgressCallback | None = None,
) -> Simulation:
    """What the change from one revision to the other does. Raises SimulationFailed.

    now: the moment at which decisions have to hold, and which rules that depend on the time are given.
    """
    touched = touched_agencies(before.revision.files, after.revision.files)
    if material.owner is not None:
        touched &= {material.owner}  # what others have changed is theirs, even as an order
    choice = Choice((before.registry, after.registry), touched, limit, material.owner)
    chosen = await asyncio.to_thread(choice.choose, material.traffic, material.stored)
    combinations = tuple(chosen.combinations)
    outcomes = await _decide((before, after), combinations, now, progress)
    decided = [
        Decided(each, chosen.combinations[each], outcomes[0][each], outcomes[1][each])
        for each in combinations
    ]
    summary = Summary(material.traffic, material.stored, chosen)
    return Simulation(
        before.revision.id,
        after.revision.id,
        material.owner,
        *await asyncio.to_thread(summary.of, decided),
        material.notes,
    )


async def _decide(
    sides: Sequence[Side],
    combinations: Sequence[Combination],
    now: datetime,
    progress: ProgressCallback | None,
) -> list[dict[Combination, Outcome]]:
    """Under all sides at once, each of which has an engine of its own."""
    done, total = 0, len(sides) * len(combinations)

    def asked(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(Progress("deciding", done, total))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(Outcomes(side, now).of(combinations, asked)) for side in sides]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
