"""Sets of places: the same as sets of tuples, whatever their pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit.places import PAGE_OFFSETS, Places, least, merge, missing

OFFSETS = st.one_of(
    st.integers(0, 40), st.integers(PAGE_OFFSETS - 3, PAGE_OFFSETS + 3), st.integers(0, 2**53)
)
PLACES = st.sets(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 2), OFFSETS), max_size=40)


def pages(places: set[tuple[str, int, int]]) -> dict[tuple[str, int, int], int]:
    collected = Places()
    for place in places:
        collected.add(*place)
    return collected.pages()


@given(PLACES, PLACES)
def test_what_is_missing(wanted: set[tuple[str, int, int]], present: set[tuple[str, int, int]]) -> None:
    assert list(missing(pages(wanted), pages(present))) == sorted(wanted - present)


@given(PLACES, PLACES)
def test_merging_is_the_union(one: set[tuple[str, int, int]], other: set[tuple[str, int, int]]) -> None:
    merged: dict[tuple[str, int, int], int] = {}
    merge(merged, pages(one))
    merge(merged, pages(other))
    assert merged == pages(one | other)


@given(PLACES)
def test_the_least_of_each_partition(places: set[tuple[str, int, int]]) -> None:
    expected: dict[tuple[str, int], int] = {}
    for topic, partition, offset in sorted(places, reverse=True):
        expected[topic, partition] = offset
    assert least(pages(places)) == expected


def test_what_is_no_place_is_refused() -> None:
    for place in (("a", 0, -1), ("a", "0", 1), ("a", 0, 1.5), ("a", True, 1)):
        with pytest.raises(ValueError):
            Places().add(*place)  # type: ignore[arg-type]
