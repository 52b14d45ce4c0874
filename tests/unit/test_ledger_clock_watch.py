"""A wall clock that was set is noticed once each time; drift and slewing are not."""

from __future__ import annotations

from broker.core.ledger.clock_watch import ClockStep, ClockWatch
from tests.fakes.clock import TurnedClock


def test_time_that_passes_is_no_step() -> None:
    clock = TurnedClock()
    watch = ClockWatch(clock)
    for seconds in (0.0, 0.5, 1.0, 3_600.0):
        clock.advance(seconds)
        assert watch.look() is None


def test_a_step_forward_is_told_once() -> None:
    clock = TurnedClock()
    watch = ClockWatch(clock)
    clock.advance(10)
    expected = clock.wall_ms
    clock.wall_ms += 5_000
    assert watch.look() == ClockStep(expected, expected + 5_000)
    clock.advance(1)
    assert watch.look() is None


def test_a_clock_that_was_set_back_and_stands_still_is_told_of_when_it_stops_and_when_it_goes_on() -> None:
    clock = TurnedClock()
    watch = ClockWatch(clock)
    stopped = clock.wall_ms
    told = []
    for _ in range(60):
        clock.steady_s += 1
        told.append(watch.look())
    assert [each for each in told if each is not None] == [ClockStep(stopped + 1_000, stopped)]
    clock.advance(1)
    resumed = watch.look()
    assert resumed is not None
    assert resumed.found_ms == stopped + 1_000
    assert resumed.expected_ms - resumed.found_ms == 59_000
    clock.advance(1)
    assert watch.look() is None


def test_slewing_is_forgiven_and_small_steps_add_up() -> None:
    clock = TurnedClock()
    watch = ClockWatch(clock)
    for _ in range(100):
        clock.advance(1)
        clock.wall_ms += 50
        assert watch.look() is None
    for _ in range(2):
        clock.advance(1)
        clock.wall_ms += 400
        assert watch.look() is None
    clock.advance(1)
    clock.wall_ms += 400
    step = watch.look()
    assert step is not None
    assert step.found_ms - step.expected_ms == 1_200
