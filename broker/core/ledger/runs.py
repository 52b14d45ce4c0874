"""Places of a delivery, in runs: `[partition, offset, decision]`, and with a fourth number as many that follow each other.

Most of what is handed out lies next to each other and was decided alike. So an entry says it once, and is a tenth as large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from broker.core.ledger.handed_out import ItemPlace
from broker.model.ledger import JsonValue

RUN_PLACES = 1_000
"""The most places of one run, so that a place is found among those runs that begin less than so many before it."""


def runs_of(places: Iterable[ItemPlace]) -> list[JsonValue]:
    """The part `places`."""
    found: list[list[int]] = []
    begin = decision = count = 0
    partition = -1
    for place in places:
        if place == (partition, begin + count, decision) and count < RUN_PLACES:
            count += 1
            continue
        if count:
            found.append([partition, begin, decision, count])
        (partition, begin, decision), count = place, 1
    if count:
        found.append([partition, begin, decision, count])
    return [list[JsonValue](run if run[3] > 1 else run[:3]) for run in found]


def places_of(runs: Sequence[Any]) -> list[ItemPlace]:
    """Each place, in order. Raises ValueError for what is no list of runs."""
    places: list[ItemPlace] = []
    for run in runs:
        match run:
            case [int(partition), int(offset), int(decision)]:
                places.append((partition, offset, decision))
            case [int(partition), int(offset), int(decision), int(count)] if 1 < count <= RUN_PLACES:
                places.extend([(partition, each, decision) for each in range(offset, offset + count)])
            case _:
                raise ValueError("places are runs of partition, offset, decision and, beyond one, count")
    return places
