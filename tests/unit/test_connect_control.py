"""The control socket: what is asked and told over it, and who may not."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import aiohttp
import aiohttp.web
import pytest

from connectors.errors import EntenteClientError
from connectors.runtime.clock import Pace
from connectors.runtime.control import listening
from connectors.runtime.control_client import ControlClient, ControlFailed
from connectors.runtime.desired import DesiredStates
from connectors.runtime.model import ConnectorFailed, Offset, Redriven, State
from connectors.runtime.plugin import TaskContext
from connectors.runtime.settings import ConfigurationRefused
from connectors.runtime.supervisor import Runtime
from tests.fakes.connecting import NoExchange, ScriptedConnector, SetClock, definition, until

CANARY = "canary-91b2"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="e") as made:
        yield Path(made)


@asynccontextmanager
async def controlled(
    directory: Path, connector: ScriptedConnector, pace: Pace | None = None
) -> AsyncIterator[tuple[ControlClient, Runtime]]:
    """A runtime with one connector, and a client of its socket."""
    with patch("connectors.runtime.supervisor.make_client", lambda *_: NoExchange()):
        runtime = Runtime(
            [definition(connector)],
            directory,
            DesiredStates.read(directory),
            clock=SetClock(),
            pace=pace or Pace(tell_s=0.01),
        )
        async with listening(runtime, directory / "control.sock"), ControlClient(directory) as control:
            await runtime.begin()
            try:
                yield control, runtime
            finally:
                await runtime.leave()


async def refused(answer: object) -> ControlFailed:
    with pytest.raises(ControlFailed) as failed:
        await answer  # type: ignore[misc]
    return failed.value


async def test_commands_answer_with_what_is_then(directory: Path) -> None:
    connector = ScriptedConnector(2)
    async with controlled(directory, connector) as (control, _):
        await until(lambda: connector.inside == [1, 1])
        [shown] = await control.connectors()
        assert (shown.name, shown.plugin, shown.direction, shown.topic) == (
            "crashes",
            "scripted",
            "source",
            "crash-reports",
        )
        assert shown.state is State.RUNNING
        assert (await control.pause("crashes")).state is State.PAUSED
        assert (await control.stop("crashes")).state is State.STOPPED
        assert connector.inside == [0, 0]
        stopped = await control.status("crashes")
        assert (stopped.state, stopped.wanted) == (State.STOPPED, State.STOPPED)
        assert (await refused(control.restart("crashes"))).status == 409
        await control.resume("crashes")
        await until(lambda: connector.inside == [1, 1])
        assert (await control.status("crashes")).state is State.RUNNING
        await control.restart("crashes", 1)
        await until(lambda: connector.inside == [1, 1])
        assert [len(each) for each in connector.attempts] == [2, 3]


async def test_a_failure_is_told_with_cause_and_next_attempt(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, runtime):
        await until(lambda: connector.inside == [1])
        connector.attempt().fail(ConnectorFailed("crashes: the topic is gone; create it"))
        await until(lambda: runtime.statuses()[0].state is State.FAILED)
        shown = await control.status("crashes")
        assert shown == runtime.statuses()[0]
        assert shown.cause == "crashes: the topic is gone; create it"
        assert shown.tasks[0].retry_at_s is not None


async def test_offsets_are_altered_only_while_stopped(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, _):
        assert await control.offsets("crashes") == [Offset({"place": "a"}, {"offset": 7})]
        forgotten = [Offset({"place": "a"}, None)]
        failed = await refused(control.alter_offsets("crashes", forgotten))
        assert failed.status == 409
        assert str(failed) == "crashes: offsets can be altered only while it is STOPPED; use `stop`"
        await control.pause("crashes")
        assert (await refused(control.alter_offsets("crashes", forgotten))).status == 409
        assert connector.kept[0].offset == {"offset": 7}
        await control.stop("crashes")
        assert await control.alter_offsets("crashes", forgotten) == forgotten
        failed = await refused(control.alter_offsets("crashes", [Offset({"other": 1}, None)]))
        assert (failed.status, str(failed)) == (400, "crashes: no partition of it; `offsets show` lists them")
        assert connector.kept == forgotten


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectorFailed("kafka.a:9093: not reached"), "crashes: kafka.a:9093: not reached"),
        (EntenteClientError("TRANSPORT", "no"), "crashes: TRANSPORT: no"),
        (ValueError(CANARY), "crashes: unexpected ValueError at fakes/connecting.py:"),
        (KeyError(CANARY), "crashes: unexpected KeyError at fakes/connecting.py:"),
    ],
)
async def test_what_a_connector_could_not_do_is_one_line(
    directory: Path, error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    connector = ScriptedConnector()
    connector.error = error
    async with controlled(directory, connector) as (control, _):
        failed = await refused(control.offsets("crashes"))
        assert failed.status == 502
        assert str(failed).startswith(told)
        async with aclosing(control.redrive("crashes")) as redriven:
            assert str(await refused(anext(redriven))).startswith(told)
    assert CANARY not in str(failed)
    assert CANARY not in caplog.text


async def test_dead_letters_are_redriven_with_progress_one_at_a_time(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, _):
        async with aclosing(control.redrive("crashes", 2)) as redriven:
            first = asyncio.ensure_future(anext(redriven))
            await until(lambda: connector.redriving is not None)
            assert connector.redriving is not None
            connector.redriving.progress.records = 1
            assert await first == Redriven(1, 0)
            async with aclosing(control.redrive("crashes")) as second:
                assert (await refused(anext(second))).status == 409
            connector.released.set()
            rest = [each async for each in redriven]
        assert rest[-1] == Redriven(2, 0)
        assert connector.letters == 1
        assert connector.redriving.number == 1
        async with aclosing(control.redrive("crashes")) as redriven:
            assert [each async for each in redriven][-1] == Redriven(1, 0)


async def test_a_redrive_ends_in_order_when_its_caller_leaves_or_the_process_ends(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, runtime):
        async with aclosing(control.redrive("crashes")) as redriven:
            await anext(redriven)
        assert connector.redriving is not None
        gate = connector.redriving.gate
        await until(lambda: gate.stopping)
        async with aclosing(control.redrive("crashes")) as redriven:
            await anext(redriven)
            leaving = asyncio.ensure_future(runtime.leave())
            rest = [each async for each in redriven]
            assert rest[-1] == Redriven(0, 0)
            assert await leaving
    assert connector.letters == 3


async def test_what_is_asked_wrongly_is_told_in_one_line(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, _):
        failed = await refused(control.status("crash"))
        assert (failed.status, str(failed)) == (
            404,
            "no connector of that name runs here; there are: crashes",
        )
        connected = aiohttp.UnixConnector(str(directory / "control.sock"))
        async with aiohttp.ClientSession("http://x", connector=connected) as session:
            for method, path, body, status in [
                ("GET", "/nothing", "", 404),
                ("DELETE", "/connectors/crashes", "", 405),
                ("POST", "/connectors/crashes/restart?task=-1", "", 400),
                ("POST", "/connectors/crashes/restart?task=9", "", 404),
                ("PATCH", "/connectors/crashes/offsets", "{", 400),
                ("PATCH", "/connectors/crashes/offsets", "[" * 100_000, 400),
                ("PATCH", "/connectors/crashes/offsets", '{"offsets": [{"partition": 1}]}', 400),
                ("POST", "/connectors/crashes/redrive", '{"most": 0}', 400),
                ("POST", "/connectors/crashes/redrive", '{"most": true}', 400),
            ]:
                async with session.request(method, path, data=body) as answer:
                    error = json.loads(await answer.read())["error"]
                    assert (answer.status, "\n" in error) == (status, False), (method, path)


async def test_a_name_is_a_name_whatever_stands_in_it(directory: Path) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, _):
        await until(lambda: connector.inside == [1])
        for name in ("crashes/stop?", "crashes/pause#", "../crashes", "crashes\n", "%63rashes", ""):
            assert (await refused(control.restart(name))).status in (404, 405), name
        assert (await control.status("crashes")).state is State.RUNNING
        assert len(connector.attempts[0]) == 1


async def test_a_connector_that_does_not_answer_is_told(directory: Path) -> None:
    connector = ScriptedConnector()

    async def never(_: object) -> list[Offset]:
        await asyncio.Event().wait()
        return []

    with patch.object(connector, "offsets", never):
        async with controlled(directory, connector, Pace(call_s=0.01)) as (control, _):
            failed = await refused(control.offsets("crashes"))
    assert (failed.status, str(failed)) == (502, "crashes: no answer within 0 s; try again")


async def test_a_redrive_that_does_not_end_is_cancelled(directory: Path) -> None:
    connector = ScriptedConnector()
    cancelled = asyncio.Event()

    async def deaf(task: TaskContext, most: int | None) -> Redriven:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Redriven()

    with patch.object(connector, "redrive", deaf):
        async with controlled(directory, connector, Pace(tell_s=0.01, stop_s=0.01)) as (control, _):
            async with aclosing(control.redrive("crashes")) as redriven:
                await anext(redriven)
            await asyncio.wait_for(cancelled.wait(), 20)


async def test_an_error_of_control_itself_is_one_line(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with controlled(directory, ScriptedConnector()) as (control, runtime):
        with patch.object(runtime, "statuses", side_effect=KeyError(CANARY)):
            failed = await refused(control.connectors())
        assert failed.status == 500
        assert str(failed).startswith("unexpected KeyError at ")
        assert not runtime.dead
        with patch.object(runtime, "statuses", side_effect=MemoryError):
            assert (await refused(control.connectors())).status == 500
        assert runtime.dead
    assert CANARY not in str(failed) + caplog.text


async def test_an_answer_that_is_none_is_told(directory: Path) -> None:
    async def nonsense(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="{}\n")

    async def broken(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="<html>", status=500)

    application = aiohttp.web.Application()
    application.router.add_get("/connectors", nonsense)
    application.router.add_post("/connectors/crashes/redrive", nonsense)
    application.router.add_get("/connectors/crashes", broken)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    await aiohttp.web.UnixSite(runner, str(directory / "control.sock")).start()
    async with ControlClient(directory) as control:
        assert "is not of this version" in str(await refused(control.connectors()))
        assert str(await refused(control.status("crashes"))) == "the control socket answered 500"
        async with aclosing(control.redrive("crashes")) as redriven:
            assert await anext(redriven) == Redriven(0, 0)
    await runner.cleanup()


def test_a_state_directory_that_is_too_deep_is_told() -> None:
    with pytest.raises(ControlFailed, match="choose a shorter state directory"):
        ControlClient(Path("/" + "d" * 200))


async def test_the_socket_is_its_owners_and_goes_with_the_process(directory: Path) -> None:
    path = directory / "control.sock"
    async with controlled(directory, ScriptedConnector()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()
    async with ControlClient(directory) as control:
        failed = await refused(control.connectors())
    assert failed.status is None
    assert str(failed).startswith(f"no connectors run in {directory}; start them with `entente connect run")


async def test_a_socket_that_a_killed_process_left_is_taken_over(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / "control.sock"))
    assert (directory / "control.sock").exists()
    async with controlled(directory, ScriptedConnector()) as (control, _):
        assert len(await control.connectors()) == 1


async def test_what_cannot_be_kept_is_not_done(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = ScriptedConnector()
    async with controlled(directory, connector) as (control, _):
        await until(lambda: connector.inside == [1])

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(DesiredStates, "_write", full)
        failed = await refused(control.stop("crashes"))
        assert failed.status == 500
        assert str(failed) == "crashes: state.json: No space left on device; nothing was changed"
        assert (await control.status("crashes")).state is State.RUNNING


def test_findings_of_all_connectors_are_told_at_once(tmp_path: Path) -> None:
    definitions = [
        definition(ScriptedConnector(), "a"),
        definition(ConfigurationRefused(("c.toml: connectors.b.directory: is missing",)), "b"),
        definition(KeyError(CANARY), "c"),
        definition(ScriptedConnector(), "a"),
    ]

    async def make() -> None:
        Runtime(definitions, tmp_path, DesiredStates.read(tmp_path))

    with pytest.raises(ConfigurationRefused) as refusal:
        asyncio.run(make())
    first, second, third = refusal.value.findings
    assert first == "c.toml: connectors.b.directory: is missing"
    assert second.startswith("connectors.c: unexpected KeyError at fakes/connecting.py:")
    assert third == "connectors.a: stands twice; give one another name"


async def test_an_error_of_the_runtime_itself_ends_the_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        async with controlled(directory, ScriptedConnector(), Pace(watch_s=0.0)) as (_, runtime):

            def broken(_: object) -> None:
                raise KeyError(CANARY)

            monkeypatch.setattr("connectors.runtime.connector.SupervisedConnector.look", broken)
            await asyncio.wait_for(runtime.died(), 20)
            assert runtime.dead
    assert "the process ends: unexpected KeyError" in caplog.text
    assert CANARY not in caplog.text
