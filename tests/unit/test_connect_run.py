"""A process of connectors: it is ready when all answers, drains on a signal, and ends whatever hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from connectors.runtime.control_client import ControlClient
from connectors.runtime.directory import StateDirectoryRefused
from connectors.runtime.model import State
from connectors.runtime.notify import ServiceManager
from connectors.runtime.plugin import TaskContext
from connectors.runtime.pulse import Pulse
from connectors.runtime.run import Ready, run
from connectors.runtime.settings import ConfigurationRefused
from tests.fakes.connecting import ScriptedConnector, SetClock, definition, until

ROOT = Path(__file__).parents[2]
CANARY = "canary-e0a5"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="e") as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTENTE_TEST_TOKEN", "a.b.c")


class Running:
    """`run` in this process, and what it said when it was ready."""

    def __init__(self, directory: Path, connector: ScriptedConnector) -> None:
        self._ready: list[Ready] = []
        self.ended = asyncio.ensure_future(
            run([definition(connector)], directory, ("127.0.0.1", 0), self._ready.append)
        )

    async def ready(self) -> Ready:
        await until(lambda: self._ready or self.ended.done())
        if self.ended.done():
            self.ended.result()
        return self._ready[0]


async def test_ready_means_that_everything_answers_and_a_signal_drains(directory: Path) -> None:
    connector = ScriptedConnector(2)
    running = Running(directory, connector)
    ready = await running.ready()
    assert (ready.connectors, ready.control) == (("crashes",), directory / "control.sock")
    assert ready.metrics is not None
    address = f"http://127.0.0.1:{ready.metrics[1]}/metrics"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert 'entente_connector_records_total{connector="crashes",task="1"}' in await answer.text()
    async with ControlClient(directory) as control:
        await until(lambda: connector.inside == [1, 1])
        assert (await control.status("crashes")).state is State.RUNNING
        with pytest.raises(StateDirectoryRefused, match="another process"):
            await run([], directory, None, print)
    signal.raise_signal(signal.SIGTERM)
    assert await running.ended
    assert connector.inside == [0, 0]
    assert not (directory / "control.sock").exists()


async def test_what_could_not_finish_is_told(directory: Path) -> None:
    connector = ScriptedConnector()
    connector.deaf = True
    running = Running(directory, connector)
    await running.ready()
    await until(lambda: connector.inside == [1])
    signal.raise_signal(signal.SIGINT)
    await until(lambda: connector.attempt().task.gate.stopping)
    connector.attempt().fail(OSError(28, "No space left on device"))
    assert not await running.ended


async def test_no_memory_ends_the_process(directory: Path) -> None:
    connector = ScriptedConnector()
    running = Running(directory, connector)
    await running.ready()
    await until(lambda: connector.inside == [1])
    connector.attempt().fail(MemoryError())
    assert not await running.ended


async def test_an_address_that_is_taken_starts_nothing(directory: Path) -> None:
    connector = ScriptedConnector()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            await run([definition(connector)], directory, ("127.0.0.1", taken.getsockname()[1]), print)
    assert connector.attempts == [[]]


async def test_a_connector_that_cannot_be_made_starts_nothing(directory: Path) -> None:
    good = ScriptedConnector()
    bad = definition(ConfigurationRefused(("b.toml: connectors.b.directory: is missing",)), "b")
    with pytest.raises(ConfigurationRefused):
        await run([definition(good), bad], directory, None, print)
    assert good.attempts == [[]]


async def test_a_caller_that_cannot_be_told_of_it_ends_it(directory: Path) -> None:
    connector = ScriptedConnector()

    def gone(_: Ready) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await run([definition(connector)], directory, None, gone)
    assert connector.inside == [0]


async def test_errors_that_reach_nobody_are_logged_without_their_message(
    directory: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    running = Running(directory, ScriptedConnector())
    await running.ready()

    def broken() -> None:
        raise KeyError(CANARY)

    asyncio.get_running_loop().call_soon(broken)
    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    await until(lambda: caplog.text.count("unexpected KeyError at unit/test_connect_run.py:") == 2)
    signal.raise_signal(signal.SIGTERM)
    assert await running.ended
    assert CANARY not in caplog.text
    assert CANARY not in "".join(capfd.readouterr())


class Calling(ScriptedConnector):
    """Calls the exchange, which nobody is."""

    async def run(self, task: TaskContext) -> None:
        await task.exchange.who_am_i()


@pytest.mark.parametrize("given", [f"{CANARY}.b.c", f"{CANARY}\n{CANARY}", None])
async def test_a_token_is_shown_nowhere(
    directory: Path, given: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if given is None:
        monkeypatch.delenv("ENTENTE_TEST_TOKEN")
    else:
        monkeypatch.setenv("ENTENTE_TEST_TOKEN", given)
    running = Running(directory, Calling())
    ready = await running.ready()
    assert ready.metrics is not None
    async with ControlClient(directory) as control:
        shown = await control.status("crashes")
        while shown.state is not State.FAILED:
            shown = await control.status("crashes")
    address = f"http://127.0.0.1:{ready.metrics[1]}/metrics"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        metrics = await answer.text()
    signal.raise_signal(signal.SIGTERM)
    assert await running.ended
    kind = {None: "variable ENTENTE_TEST_TOKEN is not set; set it to the secret"}.get(given, "T")
    assert str(shown.cause).startswith(kind)
    assert CANARY not in repr(shown) + metrics + caplog.text


HANGING = """
import sys, threading, time
from pathlib import Path
import connectors.runtime.run as running
from tests.fakes.connecting import ScriptedConnector, definition

class Hanging(ScriptedConnector):
    async def run(self, task):
        import asyncio
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
        await super().run(task)

running.END_LIMIT_S = 0.1
print(running.serve([definition(Hanging())], Path(sys.argv[1]), None, lambda _: print("ready", flush=True)))
"""


def test_a_thread_that_hangs_keeps_no_process(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "did not end within" in errors


async def test_a_loop_that_hangs_ends_the_process() -> None:
    ended = threading.Event()
    pulse = Pulse(ended.set, every_s=0.001, missed=3)
    assert ended.wait(60)  # blocks the loop
    pulse.stop()
    assert pulse.missed == 4


async def test_a_loop_that_turns_is_left_alone() -> None:
    ended = threading.Event()
    pulse = Pulse(ended.set, every_s=0.001, missed=1_000_000)
    await until(lambda: pulse.asked >= 5)
    await until(lambda: pulse.missed < pulse.asked)
    pulse.stop()
    assert not ended.is_set()


async def test_systemd_is_told() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # Linux chooses an abstract address
        manager.setblocking(False)
        address = "@" + manager.getsockname()[1:].decode()
        clock = SetClock()
        told = ServiceManager(
            {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
        )
        told.tell("READY=1")
        assert manager.recv(100) == b"READY=1"
        alive = asyncio.ensure_future(told.stay_alive(clock))
        await until(lambda: received(manager.recv) == b"WATCHDOG=1")
        clock.advance(14)
        for _ in range(20):
            await asyncio.sleep(0)
            assert received(manager.recv) is None
        clock.advance(1)
        await until(lambda: received(manager.recv) == b"WATCHDOG=1")
        alive.cancel()


def received(receive: Callable[[int], bytes]) -> bytes | None:
    try:
        return receive(100)
    except BlockingIOError:
        return None


async def test_without_systemd_nobody_is_told() -> None:
    for environment in ({}, {"WATCHDOG_USEC": "5"}, {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_PID": "1"}):
        told = ServiceManager(environment)
        told.tell("READY=1")
    await ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).stay_alive(SetClock())
    await ServiceManager({}).stay_alive(SetClock())
