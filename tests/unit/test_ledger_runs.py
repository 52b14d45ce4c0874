"""Places in runs: nothing is lost, nothing is added, and what is no run is refused."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.ledger.handed_out import ItemPlace
from broker.core.ledger.runs import RUN_PLACES, places_of, runs_of

places = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 1)))


@given(places)
def test_runs_are_the_places_in_their_order(given_places: list[ItemPlace]) -> None:
    assert places_of(runs_of(given_places)) == given_places


@given(places)
def test_neighbours_are_one_run(given_places: list[ItemPlace]) -> None:
    runs = [run if len(run) > 3 else [*run, 1] for run in cast(list[list[int]], runs_of(given_places))]
    ends = [(partition, offset + count, decision) for partition, offset, decision, count in runs]
    begins = [tuple(run[:3]) for run in runs]
    assert all(end != begin for end, begin in zip(ends, begins[1:], strict=False))


def test_a_run_is_written_with_its_count_and_a_single_place_without() -> None:
    assert runs_of([(0, 7, 0), (0, 8, 0), (0, 9, 1), (1, 10, 1)]) == [[0, 7, 0, 2], [0, 9, 1], [1, 10, 1]]


def test_a_run_has_an_end() -> None:
    many = [(0, offset, 0) for offset in range(2 * RUN_PLACES + 1)]
    runs = runs_of(many)
    assert runs == [[0, 0, 0, RUN_PLACES], [0, RUN_PLACES, 0, RUN_PLACES], [0, 2 * RUN_PLACES, 0]]
    assert places_of(runs) == many


@pytest.mark.parametrize(
    "run",
    [
        [],
        [0],
        [0, 1],
        [0, 1, 0, 1],
        [0, 1, 0, 0],
        [0, 1, 0, -3],
        [0, 1, 0, RUN_PLACES + 1],
        [0, 1, 0, 2, 3],
        "0",
        7,
        None,
    ],
    ids=str,
)
def test_what_is_no_run_is_refused(run: object) -> None:
    with pytest.raises(ValueError, match="runs"):
        places_of([run])
