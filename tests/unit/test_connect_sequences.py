"""Whatever is commanded and whatever fails, in any order: no task is shown as running that does not run."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.runtime.clock import Pace
from connectors.runtime.connector import CommandRefused
from connectors.runtime.model import ConnectorFailed, State
from connectors.runtime.plugin import Gate
from tests.fakes.connecting import Rig, begun, rig, until

TASKS = 2
HASTE = Pace(stop_s=0.002, cancel_s=0.002)

Step = Callable[[Rig], Coroutine[None, None, None]]


def commanded(command: Callable[[Rig], Coroutine[None, None, None]]) -> Step:
    """A command, which may be refused: what is shown must be true then too."""

    async def step(one: Rig) -> None:
        try:
            await command(one)
        except CommandRefused:
            return

    return step


def ending(number: int, error: Callable[[], Exception] | None) -> Step:
    async def step(one: Rig) -> None:
        for attempt in one.connector.attempts[number][-1:]:
            if error is None:
                attempt.finish()
            else:
                attempt.fail(error())

    return step


def passing(duration_s: float) -> Step:
    async def step(one: Rig) -> None:
        one.clock.advance(duration_s)
        one.supervised.look()

    return step


def behaving(deaf: bool, immortal: bool) -> Step:
    """From its next attempt on a task hears no stop, and may not even end when it is cancelled."""

    async def step(one: Rig) -> None:
        one.connector.deaf, one.connector.immortal = deaf, immortal

    return step


def reaching(error: Exception | None) -> Step:
    async def step(one: Rig) -> None:
        one.exchange.error = error

    return step


async def moving(one: Rig) -> None:
    for number in range(TASKS):
        for attempt in one.connector.attempts[number][-1:]:
            attempt.task.progress.moved(1, 1)


async def together(one: Rig) -> None:
    """Several callers at once."""
    commands = (one.supervised.stop(), one.supervised.resume(), one.supervised.restart(None))
    await asyncio.gather(*commands, return_exceptions=True)


STEPS = {
    "pause": commanded(lambda one: one.supervised.pause()),
    "resume": commanded(lambda one: one.supervised.resume()),
    "stop": commanded(lambda one: one.supervised.stop()),
    "restart": commanded(lambda one: one.supervised.restart(None)),
    "restart 1": commanded(lambda one: one.supervised.restart(1)),
    "together": together,
    "0 fails": ending(0, lambda: ConnectorFailed("no")),
    "1 fails": ending(1, lambda: ConnectorFailed("no")),
    "1 fails for long": ending(1, lambda: ConnectorFailed("no", lasting=True)),
    "0 breaks": ending(0, lambda: KeyError("x")),
    "0 returns": ending(0, None),
    "1 returns": ending(1, None),
    "a second passes": passing(1),
    "two minutes pass": passing(120),
    "a record moves": moving,
    "deaf": behaving(True, False),
    "immortal": behaving(True, True),
    "well-behaved": behaving(False, False),
    "no exchange": reaching(OSError(111, "Connection refused")),
    "exchange": reaching(None),
}


def check(one: Rig) -> None:
    """What must hold at every moment."""
    shown = one.supervised.status()
    for task, inside in zip(shown.tasks, one.connector.inside, strict=True):
        assert inside in (0, 1), "a task runs twice"
        if task.state in (State.RUNNING, State.PAUSED):
            assert inside == 1, f"task {task.number} is shown as {task.state} and does not run"
        if task.state is State.STOPPED:
            assert inside == 0, f"task {task.number} is shown as STOPPED and runs"
        if task.state is State.FAILED:
            assert task.cause is not None
    if shown.state is State.RUNNING:
        assert one.connector.inside == [1] * TASKS
    if shown.state is State.STOPPED:
        assert one.connector.inside == [0] * TASKS
        assert one.exchange.open == 0


async def play(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        one = rig(Path(directory), TASKS, HASTE)
        async with begun(one):
            for name in names:
                doing = asyncio.ensure_future(STEPS[name](one))
                while not doing.done():
                    check(one)
                    await asyncio.sleep(0)
                await doing
                for _ in range(6):
                    check(one)
                    await asyncio.sleep(0)
            await mended(one)
        check(one)
        assert not one.died


async def mended(one: Rig) -> None:
    """Whatever was: when nothing is wrong any more, it can be made to run."""
    one.connector.deaf = one.connector.immortal = False
    one.exchange.error = None
    for attempts in one.connector.attempts:
        for attempt in attempts:
            attempt.deaf = attempt.immortal = False
            attempt.finish()
    await until(lambda: one.connector.inside == [0] * TASKS)
    await one.supervised.resume()
    await restarted(one)
    await until(lambda: one.connector.inside == [1] * TASKS)
    one.clock.advance(60)
    assert one.supervised.status().state is State.RUNNING
    check(one)


async def restarted(one: Rig) -> None:
    """A busy machine may take longer than the haste of these tests to end a task: then it is told to, and tried again."""
    while True:
        try:
            await one.supervised.restart(None)
        except CommandRefused:
            await one.supervised.resume()
        else:
            return


SEQUENCES = st.lists(st.sampled_from(sorted(STEPS)), max_size=12)
UNHURRIED = list(HealthCheck)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(SEQUENCES)
def test_no_sequence_shows_what_is_not(names: list[str]) -> None:
    asyncio.run(play(names))


@pytest.mark.soak
@settings(max_examples=3_000, deadline=None, suppress_health_check=UNHURRIED)
@given(SEQUENCES)
def test_no_sequence_shows_what_is_not_at_length(names: list[str]) -> None:
    asyncio.run(play(names))


async def test_a_change_of_the_gate_is_noticed_by_who_began_to_wait_before_it() -> None:
    gate = Gate()
    waiting = asyncio.ensure_future(gate.changed())
    gate.set(paused=True)
    await asyncio.wait_for(waiting, 20)
    assert gate.paused
    gate.set(stopping=True)
    assert not gate.paused
    assert not await gate.proceed()
