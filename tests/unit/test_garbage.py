"""Collections are rare in a long-running process, and garbage in cycles still goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from connectors.garbage import spare_collections


class Circle:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector of this process is as it was afterwards."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_is_there_is_not_looked_through_again() -> None:
    spare_collections()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_count()[0] < gc.get_threshold()[0]


def test_circles_made_later_are_freed_without_being_asked_for() -> None:
    spare_collections()
    freed = weakref.ref(Circle())
    kept = [[number] for number in range(2 * gc.get_threshold()[0])]
    assert kept
    assert freed() is None
