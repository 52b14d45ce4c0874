"""What the runtime shows of tasks follows from what they do, and what failed starts again, ever later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.errors import EntenteClientError
from connectors.runtime.clock import Pace
from connectors.runtime.connector import CommandRefused
from connectors.runtime.model import ConnectorFailed, State
from connectors.runtime.settings import ConfigurationRefused
from connectors.runtime.status import TaskStatus
from tests.fakes.connecting import Rig, begun, rig, until

CANARY = "canary-7c1f"


def task(one: Rig, number: int = 0) -> TaskStatus:
    return one.supervised.status().tasks[number]


async def failed(one: Rig, error: BaseException, number: int = 0) -> TaskStatus:
    """After a task failed with that."""
    await until(lambda: one.connector.inside[number] == 1)
    one.connector.attempt(number).fail(error)
    await until(lambda: task(one, number).state is State.FAILED)
    return task(one, number)


async def test_a_task_is_running_only_while_it_runs(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        assert task(one).state is State.UNASSIGNED
        await until(lambda: one.connector.inside == [1])
        assert task(one).state is State.RUNNING
        assert one.exchange.open == 1
        await one.supervised.stop()
        assert task(one).state is State.STOPPED
        assert one.connector.inside == [0]
        assert one.exchange.open == 0


async def test_a_failure_says_why_and_when_it_starts_again(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        shown = await failed(one, ConnectorFailed("crashes 0: the topic is gone; create it"))
        assert shown.cause == "crashes 0: the topic is gone; create it"
        assert shown.retry_at_s is not None
        assert 0.5 <= shown.retry_at_s - one.clock.epoch_s() <= 1.0
        assert one.supervised.status().state is State.FAILED
        assert one.supervised.status().cause == shown.cause
        one.clock.advance(1.0)
        await until(lambda: one.connector.inside == [1])
        again = task(one)
        assert again.state is State.RESTARTING
        assert again.cause == shown.cause
        assert again.retry_at_s is None
        assert again.progress.restarts == 1
        one.connector.attempt().task.progress.moved(1, 10)
        assert task(one).state is State.RUNNING
        assert task(one).cause is None


async def test_pauses_double_up_to_a_minute_and_begin_anew_after_something_moved(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        for bound_s in (1, 2, 4, 8, 16, 32, 60, 60):
            shown = await failed(one, ConnectorFailed("no"))
            assert shown.retry_at_s is not None
            assert bound_s / 2 <= shown.retry_at_s - one.clock.epoch_s() <= bound_s
            one.clock.advance(bound_s)
        await until(lambda: one.connector.inside == [1])
        one.connector.attempt().task.progress.moved(1, 1)
        shown = await failed(one, ConnectorFailed("no"))
        assert shown.retry_at_s is not None
        assert shown.retry_at_s - one.clock.epoch_s() <= 1


async def test_a_minute_of_work_is_believed_and_an_idle_start_is_not_enough_for_a_short_pause(
    tmp_path: Path,
) -> None:
    async with begun(rig(tmp_path)) as one:
        await failed(one, ConnectorFailed("no"))
        one.clock.advance(1)
        await until(lambda: one.connector.inside == [1])
        one.connector.attempt().task.progress.idle()
        assert task(one).state is State.RUNNING
        shown = await failed(one, ConnectorFailed("no"))
        assert shown.retry_at_s is not None
        assert shown.retry_at_s - one.clock.epoch_s() >= 1.0
        one.clock.advance(2)
        await until(lambda: one.connector.inside == [1])
        one.clock.advance(60)
        assert task(one).state is State.RUNNING
        shown = await failed(one, ConnectorFailed("no"))
        assert shown.retry_at_s is not None
        assert shown.retry_at_s - one.clock.epoch_s() <= 1


async def test_what_lasts_waits_for_a_person(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        shown = await failed(one, ConnectorFailed("another process runs it; end one", lasting=True))
        assert shown.retry_at_s is None
        one.clock.advance(1_000_000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert task(one).state is State.FAILED
        await one.supervised.restart(0)
        await until(lambda: one.connector.inside == [1])
        assert task(one).state is State.RESTARTING
        assert task(one).cause == shown.cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyError(CANARY), "unexpected KeyError at fakes/connecting.py:"),
        (
            EntenteClientError("TOPIC_NOT_FOUND", "no such topic", "ref"),
            "TOPIC_NOT_FOUND: no such topic (reference ref)",
        ),
        (FileNotFoundError(2, "No such file or directory", "ca.pem"), "ca.pem: No such file or directory"),
        (OSError(CANARY), "OSError"),
        (
            ConfigurationRefused(("password: No such file; put the secret there",)),
            "password: No such file; put",
        ),
        (ExceptionGroup(CANARY, [KeyError(CANARY), ConnectorFailed("the cause")]), "the cause"),
        (ConnectorFailed("two\nlines\x1b[31m"), "two lines?[31m"),
    ],
)
async def test_a_cause_is_one_line_and_nothing_of_a_record(
    tmp_path: Path, error: Exception, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with begun(rig(tmp_path)) as one:
        shown = await failed(one, error)
        assert shown.cause is not None
        assert shown.cause.startswith(cause)
        assert CANARY not in shown.cause
    assert CANARY not in caplog.text


async def test_a_task_that_returns_by_itself_has_failed(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        one.connector.attempt().finish()
        await until(lambda: task(one).state is State.FAILED)
        assert "ended although nobody stopped it" in str(task(one).cause)
        assert task(one).retry_at_s is not None


async def test_a_task_whose_own_work_was_cancelled_has_failed(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        shown = await failed(one, asyncio.CancelledError())
        assert "was cancelled although nobody stopped it" in str(shown.cause)
        assert shown.retry_at_s is not None


async def test_a_client_that_cannot_be_opened_is_a_failure_of_the_task(tmp_path: Path) -> None:
    one = rig(tmp_path)
    one.exchange.error = FileNotFoundError(2, "No such file or directory", "ca.pem")
    async with begun(one):
        await until(lambda: task(one).state is State.FAILED)
        assert task(one).cause == "ca.pem: No such file or directory"
        one.exchange.error = None
        one.clock.advance(1)
        await until(lambda: one.connector.inside == [1])


async def test_no_memory_ends_the_process(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        one.connector.attempt().fail(ExceptionGroup("", [MemoryError()]))
        await until(lambda: one.died)
        assert isinstance(one.died[0], MemoryError)
        assert task(one).state is State.STOPPED


async def test_lag_of_a_task_that_does_not_run_is_not_known(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        progress = one.connector.attempt().task.progress
        progress.lag_s, progress.lag_records = 0.0, 0
        shown = await failed(one, ConnectorFailed("no"))
        assert (shown.progress.lag_s, shown.progress.lag_records) == (None, None)


async def test_pausing_keeps_the_place_and_outlives_a_failure(tmp_path: Path) -> None:
    async with begun(rig(tmp_path, tasks=2)) as one:
        await until(lambda: one.connector.inside == [1, 1])
        await one.supervised.pause()
        assert one.supervised.status().state is State.PAUSED
        assert one.connector.inside == [1, 1]
        assert one.connector.attempt().task.gate.paused
        await failed(one, ConnectorFailed("no"))
        assert one.supervised.status().state is State.DEGRADED
        assert one.supervised.status().cause == "task 0: no"
        one.clock.advance(1)
        await until(lambda: one.connector.inside == [1, 1])
        assert task(one).state is State.PAUSED
        await one.supervised.resume()
        assert not one.connector.attempt().task.gate.paused
        assert len(one.connector.attempts[1]) == 1


async def test_stopping_is_bounded(tmp_path: Path) -> None:
    one = rig(tmp_path, pace=Pace(stop_s=0.01, cancel_s=30.0))
    one.connector.deaf = True
    async with begun(one):
        await until(lambda: one.connector.inside == [1])
        await one.supervised.stop()
        assert one.connector.inside == [0]
        assert task(one).state is State.STOPPED


async def test_what_does_not_even_end_when_cancelled_is_failed_and_never_started_twice(
    tmp_path: Path,
) -> None:
    one = rig(tmp_path, pace=Pace(stop_s=0.01, cancel_s=0.01))
    one.connector.deaf = one.connector.immortal = True
    async with begun(one):
        await until(lambda: one.connector.inside == [1])
        with pytest.raises(CommandRefused, match="does not end"):
            await one.supervised.stop()
        assert task(one).state is State.FAILED
        assert "does not end" in str(task(one).cause)
        with pytest.raises(CommandRefused, match="only while it is STOPPED"):
            await one.supervised.alter_offsets([])
        await one.supervised.resume()
        with pytest.raises(CommandRefused, match="does not end"):
            await one.supervised.restart(None)
        assert one.connector.inside == [1]
        assert not await one.supervised.leave()
        one.connector.attempt().finish()
        await until(lambda: task(one).state is State.STOPPED)
        one.supervised.look()
        assert task(one).state is State.STOPPED


async def test_what_ended_too_late_to_be_restarted_is_started_later(tmp_path: Path) -> None:
    one = rig(tmp_path, tasks=2, pace=Pace(stop_s=0.01, cancel_s=0.01))
    async with begun(one):
        await until(lambda: one.connector.inside == [1, 1])
        one.connector.attempt(0).deaf = one.connector.attempt(0).immortal = True
        with pytest.raises(CommandRefused, match="does not end"):
            await one.supervised.restart(None)
        await until(lambda: len(one.connector.attempts[1]) == 2)
        assert one.supervised.status().state is State.DEGRADED
        one.supervised.look()
        assert len(one.connector.attempts[0]) == 1
        one.connector.attempt(0).finish()
        await until(lambda: one.connector.inside[0] == 0)
        await until(lambda: task(one).state is State.STOPPED)
        one.supervised.look()
        await until(lambda: one.connector.inside == [1, 1])
        assert task(one).state is State.RESTARTING


async def test_leaving_tells_whether_all_finished(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        assert await one.supervised.leave()
        with pytest.raises(CommandRefused, match="the process is ending"):
            await one.supervised.resume()
        assert one.supervised.wanted is State.RUNNING


async def test_a_task_that_fails_while_it_finishes_has_not_finished(tmp_path: Path) -> None:
    one = rig(tmp_path)
    one.connector.deaf = True
    async with begun(one):
        await until(lambda: one.connector.inside == [1])
        leaving = asyncio.ensure_future(one.supervised.leave())
        await until(lambda: one.connector.attempt().task.gate.stopping)
        one.connector.attempt().fail(ConnectorFailed("the last commit failed"))
        assert not await leaving
        assert task(one).state is State.STOPPED
        assert task(one).cause == "the last commit failed"


async def test_a_connector_that_waits_for_its_next_attempt_leaves_at_once(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await failed(one, ConnectorFailed("no"))
        assert await one.supervised.leave()


async def test_one_task_restarts_alone(tmp_path: Path) -> None:
    async with begun(rig(tmp_path, tasks=2)) as one:
        await until(lambda: one.connector.inside == [1, 1])
        await one.supervised.restart(1)
        await until(lambda: one.connector.inside == [1, 1])
        assert [len(each) for each in one.connector.attempts] == [1, 2]
        assert one.supervised.status().state is State.RESTARTING
        one.connector.attempt(1).task.progress.idle()
        assert one.supervised.status().state is State.RUNNING
        with pytest.raises(CommandRefused, match="has no task 2; it has 2"):
            await one.supervised.restart(2)
        await one.supervised.stop()
        with pytest.raises(CommandRefused, match="is STOPPED; use `resume`"):
            await one.supervised.restart(None)


async def test_a_connector_that_gets_nowhere_is_degraded(tmp_path: Path) -> None:
    async with begun(rig(tmp_path, tasks=2)) as one:
        await until(lambda: one.connector.inside == [1, 1])
        progress = one.connector.attempt(1).task.progress
        for passed_s in range(0, 61, 5):
            progress.lag_s = float(passed_s + 3)
            one.supervised.look()
            assert one.supervised.status().state is (State.RUNNING if passed_s < 60 else State.DEGRADED)
            one.clock.advance(5)
        assert one.supervised.status().cause == (
            "task 1: runs and moves nothing: what waits is 63 s old; see the process's log, then `restart`"
        )
        progress.moved(1, 1)
        one.supervised.look()
        assert one.supervised.status().state is State.RUNNING
        assert one.supervised.status().cause is None


async def test_a_task_that_shows_no_sign_of_life_is_not_believed_that_nothing_waits(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        progress = one.connector.attempt().task.progress
        progress.lag_s = 0.0
        one.supervised.look()
        one.clock.advance(599)
        one.supervised.look()
        assert one.supervised.status().state is State.RUNNING
        one.clock.advance(1)
        one.supervised.look()
        assert one.supervised.status().state is State.DEGRADED
        assert one.supervised.status().cause == (
            "runs and moves nothing: nor does it tell that nothing waits; see the process's log, then `restart`"
        )
        progress.idle()
        one.supervised.look()
        assert one.supervised.status().state is State.RUNNING


async def test_what_moves_or_grows_younger_or_is_paused_is_not_degraded(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        progress = one.connector.attempt().task.progress
        progress.lag_s = 500.0
        for _ in range(30):
            progress.lag_s += 5
            progress.skipped += 1
            one.supervised.look()
            one.clock.advance(10)
            assert one.supervised.status().state is State.RUNNING
        for _ in range(30):
            progress.lag_s -= 1
            one.supervised.look()
            one.clock.advance(10)
            assert one.supervised.status().state is State.RUNNING
        await one.supervised.pause()
        for _ in range(30):
            progress.lag_s += 10
            one.supervised.look()
            one.clock.advance(10)
        await one.supervised.resume()
        one.supervised.look()
        assert one.supervised.status().state is State.RUNNING
