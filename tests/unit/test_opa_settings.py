"""OPA's limits follow the size of the data that it is given."""

from __future__ import annotations

import pytest

from broker.adapters.opa import OpaSettings

SETTINGS = OpaSettings()
MIB = 1024 * 1024


def test_a_small_rulebook_takes_what_is_set() -> None:
    small = SETTINGS.for_data(100 * 1024)
    assert (small.start_timeout_s, small.garbage_percent) == (SETTINGS.start_timeout_s, 400)
    assert 0 < small.memory_limit_bytes - SETTINGS.memory_limit_bytes < 2 * MIB
    assert small.deadline_s == SETTINGS.deadline_s


def test_a_large_one_gets_memory_and_time_and_leaves_less_garbage() -> None:
    large = SETTINGS.for_data(480 * MIB)
    assert large.memory_limit_bytes - SETTINGS.memory_limit_bytes == 12 * 480 * MIB
    assert large.start_timeout_s == SETTINGS.start_timeout_s + 480
    # What it holds, eight times its data, and the garbage beside it have room below the collector's limit.
    held = 8 * 480 * MIB
    assert held * (100 + large.garbage_percent) / 100 < large.memory_limit_bytes * 7 / 8


@pytest.mark.parametrize("size", [0, 1, MIB, 16 * MIB, 64 * MIB, 1024 * MIB, 4096 * MIB])
def test_garbage_is_neither_unbounded_nor_collected_all_the_time(size: int) -> None:
    assert 25 <= SETTINGS.for_data(size).garbage_percent <= 400
