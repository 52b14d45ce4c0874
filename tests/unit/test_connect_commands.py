"""`entente connect` against the control socket of a process that only pretends to run connectors."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from connectors.cli.status_page import Rates, page, span
from connectors.runtime.connector import CommandRefused
from connectors.runtime.control import listening
from connectors.runtime.directory import socket_path
from connectors.runtime.model import Offset, Redriven, State
from connectors.runtime.progress import Progress
from connectors.runtime.status import ConnectorStatus, TaskStatus
from connectors.runtime.supervisor import Runtime
from tests.e2e.here import Done, run_here
from tests.services.broker import ENTENTE

NOW_S = 1_800_000_000.0


def task(number: int, state: State = State.RUNNING, **values: Any) -> TaskStatus:
    progress = Progress(
        records=1_000 * (number + 1),
        dead_lettered=number,
        lag_records=7,
        lag_s=90.0,
        last_success_s=NOW_S - 5,
    )
    defaults = TaskStatus(number, state, NOW_S - 60, None, None, False, progress)
    return replace(defaults, **values)


def status(name: str = "crashes", state: State = State.RUNNING, **values: Any) -> ConnectorStatus:
    wanted = state if state in (State.PAUSED, State.STOPPED) else State.RUNNING
    tasks = (task(0), task(1))
    return replace(
        ConnectorStatus(name, "kafka-source", "source", "crash-reports", state, wanted, None, tasks), **values
    )


@dataclass
class PretendConnector:
    """Does as it is told, and remembers it."""

    told: ConnectorStatus
    places: list[Offset] = field(default_factory=list)
    letters: Sequence[Redriven] = ()
    restarted: list[int | None] = field(default_factory=list)
    asked_to_redrive: list[int | None] = field(default_factory=list)

    def status(self) -> ConnectorStatus:
        return self.told

    async def pause(self) -> None:
        self.told = replace(self.told, state=State.PAUSED, wanted=State.PAUSED)

    async def resume(self) -> None:
        self.told = replace(self.told, state=State.RUNNING, wanted=State.RUNNING)

    async def stop(self) -> None:
        self.told = replace(self.told, state=State.STOPPED, wanted=State.STOPPED)

    async def restart(self, number: int | None) -> None:
        if number is not None and number >= len(self.told.tasks):
            raise CommandRefused(f"{self.told.name}: has no task {number}", 404)
        self.restarted.append(number)

    async def offsets(self) -> list[Offset]:
        return self.places

    async def alter_offsets(self, offsets: Sequence[Offset]) -> list[Offset]:
        after = {json.dumps(dict(each.partition)): each for each in (*self.places, *offsets)}
        self.places = list(after.values())
        return self.places

    async def redrive(self, most: int | None) -> AsyncIterator[Redriven]:
        self.asked_to_redrive.append(most)
        for each in self.letters:
            yield each


class Running:
    """A state directory on whose socket one pretended connector answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.crashes = PretendConnector(
            status(),
            [
                Offset({"topic": "crashes", "partition": 0}, {"offset": 42}),
                Offset({"topic": "crashes", "partition": 1}, {"offset": 7}),
            ],
        )

    def statuses(self) -> list[ConnectorStatus]:
        return [self.crashes.status()]

    def connector(self, name: str) -> PretendConnector:
        if name != "crashes":
            raise CommandRefused("no connector of that name runs here; there are: crashes", 404)
        return self.crashes

    def run(self, *arguments: str | Path) -> Done:
        return run_here(self.directory, "connect", *arguments, "--state", self.state)

    def ask(self, *arguments: str | Path) -> Any:
        done = self.run(*arguments, "-o", "json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A Unix socket's path may not be long."""
    with tempfile.TemporaryDirectory(prefix="connect-") as directory:
        yield Path(directory)


@pytest.fixture
def running(short_path: Path) -> Iterator[Running]:
    pretended = Running(short_path)
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()

    async def answer() -> None:
        async with listening(cast(Runtime, pretended), socket_path(pretended.state)):
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(answer()))
    thread.start()
    assert ready.wait(30)
    yield pretended
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)
    loop.close()


def test_connectors_are_listed(running: Running) -> None:
    assert running.ask("list") == [
        {
            "name": "crashes",
            "plugin": "kafka-source",
            "topic": "crash-reports",
            "state": "RUNNING",
            "wanted": "RUNNING",
            "tasks": 2,
            "cause": None,
        }
    ]
    assert "kafka-source" in running.run("list", "-o", "table").stdout


def test_the_output_may_be_chosen_before_the_commands_name(running: Running) -> None:
    done = run_here(running.directory, "-o", "json", "connect", "list", "--state", running.state)
    assert done.stdout.startswith("[\n")


@pytest.mark.parametrize("chosen", [(), ("crashes",)])
def test_a_status_tells_tasks_and_sums(chosen: tuple[str, ...], running: Running) -> None:
    (found,) = running.ask("status", *chosen)
    assert [each["progress"]["records"] for each in found["tasks"]] == [1_000, 2_000]
    assert (found["total"]["records"], found["total"]["lag_records"], found["total"]["lag_s"]) == (
        3_000,
        14,
        90.0,
    )


def test_a_page_that_nobody_watches_is_printed_once(running: Running) -> None:
    done = running.run("status", "--watch", "-o", "table")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["connector", "crashes", "task", "task"]


@pytest.mark.parametrize(
    ("command", "state"), [("pause", "PAUSED"), ("stop", "STOPPED"), ("resume", "RUNNING")]
)
def test_commands_tell_the_state_afterwards(command: str, state: str, running: Running) -> None:
    told = running.ask(command, "crashes")
    assert (told["name"], told["state"], told["wanted"]) == ("crashes", state, state)
    assert running.crashes.told.state == state


def test_all_tasks_or_one_are_restarted(running: Running) -> None:
    running.ask("restart", "crashes")
    running.ask("restart", "crashes", "--task", "1")
    assert running.crashes.restarted == [None, 1]
    done = running.run("restart", "crashes", "--task", "2")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "entente: crashes: has no task 2\n")


@pytest.mark.parametrize("command", ["status", "pause", "resume", "stop", "restart", "redrive"])
def test_another_name_is_refused_in_one_line(command: str, running: Running) -> None:
    done = running.run(command, "nobody")
    told = "entente: no connector of that name runs here; there are: crashes\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", told)


@pytest.mark.parametrize(
    "command", [("list",), ("status",), ("pause", "x"), ("offsets", "show", "x"), ("redrive", "x")]
)
def test_where_nothing_runs_the_remedy_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run_here(tmp_path, "connect", *command)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "entente: no connectors run in entente-connect; start them with `entente connect run FILE --state DIR`, "
        "or name their directory with --state\n"
    )


def test_offsets_are_shown_as_they_can_be_altered(running: Running) -> None:
    assert running.ask("offsets", "show", "crashes") == [
        {"partition": {"topic": "crashes", "partition": 0}, "offset": {"offset": 42}},
        {"partition": {"topic": "crashes", "partition": 1}, "offset": {"offset": 7}},
    ]
    assert (
        "topic=crashes,partition=1  offset=7"
        in running.run("offsets", "show", "crashes", "-o", "table").stdout
    )


def altered(running: Running, *arguments: str | Path) -> list[object]:
    running.crashes.told = status(state=State.STOPPED)
    done = running.run("offsets", "alter", "crashes", *arguments, "--yes", "-o", "jsonl")
    assert done.returncode == 0
    assert all(" -> " in line for line in done.stderr.splitlines())
    return [each.offset for each in running.crashes.places]


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        (("--offset", "5"), [{"offset": 5}, {"offset": 5}]),
        (("--partition", "partition=1", "--offset", "5"), [{"offset": 42}, {"offset": 5}]),
        (
            ("--partition", "topic=crashes", "--offset", "from=latest"),
            [{"from": "latest"}, {"from": "latest"}],
        ),
        (
            ("--partition", "topic=new,partition=0", "--offset", "1"),
            [{"offset": 42}, {"offset": 7}, {"offset": 1}],
        ),
        (("--offset", "cursor=YWJj=="), [{"cursor": "YWJj=="}, {"cursor": "YWJj=="}]),
        (("--offset", '{"from": "earliest"}'), [{"from": "earliest"}, {"from": "earliest"}]),
        (("--partition", '{"partition": 1}', "--offset", '{"offset": 5}'), [{"offset": 42}, {"offset": 5}]),
        (("--reset",), [None, None]),
        (("--reset", "--partition", "partition=0,topic=crashes"), [None, {"offset": 7}]),
    ],
)
def test_offsets_are_altered(arguments: tuple[str, ...], offsets: list[object], running: Running) -> None:
    assert altered(running, *arguments) == offsets


@pytest.mark.parametrize("wrapped", [False, True])
def test_offsets_are_altered_by_a_file(wrapped: bool, running: Running) -> None:
    shown = running.ask("offsets", "show", "crashes")
    shown[1]["offset"] = {"offset": 8}
    file = running.directory / "offsets.json"
    file.write_text(json.dumps({"offsets": shown} if wrapped else shown))
    assert altered(running, "--file", file) == [{"offset": 42}, {"offset": 8}]


@pytest.mark.parametrize("content", ["", "[", "5", '{"a": 1}', '[{"partition": 5}]', "[" * 20_000])
def test_a_file_of_something_else_is_refused(content: str, running: Running) -> None:
    running.crashes.told = status(state=State.STOPPED)
    file = running.directory / "offsets.json"
    file.write_text(content)
    done = running.run("offsets", "alter", "crashes", "--file", file, "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "entente connect offsets show NAME -o json" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--offset", "1", "--reset"),
        ("--file", "f", "--partition", "partition=1"),
        ("--offset", "sideways"),
        ("--offset", "5", "--partition", "0"),
        ("--offset", "{"),
        ("--offset", "{}"),
        ("--offset", '{"offset": [5]}'),
        ("--offset", '{"offset": true}'),
    ],
)
def test_an_alteration_that_says_not_what_is_refused(arguments: tuple[str, ...], running: Running) -> None:
    running.crashes.told = status(state=State.STOPPED)
    before = running.crashes.places
    done = running.run("offsets", "alter", "crashes", *arguments, "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert running.crashes.places == before


def test_offsets_are_altered_only_when_stopped(running: Running) -> None:
    done = running.run("offsets", "alter", "crashes", "--offset", "5", "--yes")
    told = "entente: crashes: is RUNNING; stop it first: 'entente connect stop crashes'\n"
    assert (done.returncode, done.stderr) == (3, told)


def test_nobody_there_to_ask_alters_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.crashes.told = status(state=State.STOPPED)
    before = running.crashes.places
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    done = running.run("offsets", "alter", "crashes", "--offset", "5")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "entente: nobody can be asked here; say --yes"
    assert running.crashes.places == before


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code", "offset"), [("y\n", 0, 5), ("n\n", 130, 42), ("", 130, 42)])
def test_an_alteration_is_shown_and_asked_for(
    answer: str, code: int, offset: int, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.crashes.told = status(state=State.STOPPED)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = running.run("offsets", "alter", "crashes", "--offset", "5", "--partition", "partition=0")
    assert done.returncode == code
    assert "topic=crashes,partition=0: offset=42 -> offset=5\n" in done.stderr
    assert running.crashes.places[0].offset == {"offset": offset}


@pytest.mark.parametrize(
    ("letters", "code", "tried", "failed"),
    [
        ((Redriven(),), 0, 0, 0),
        ((Redriven(1, 0), Redriven(3, 0)), 0, 3, 0),
        ((Redriven(1, 1), Redriven(3, 1)), 6, 3, 1),
        ((Redriven(2, 2),), 3, 2, 2),
    ],
)
def test_a_redrive_tells_what_it_did(
    letters: Sequence[Redriven], code: int, tried: int, failed: int, running: Running
) -> None:
    running.crashes.letters = letters
    done = running.run("redrive", "crashes", "--max", "9", "-o", "json")
    assert (done.returncode, done.stderr) == (code, "")
    assert json.loads(done.stdout) == {"name": "crashes", "tried": tried, "failed": failed}
    assert running.crashes.asked_to_redrive == [9]


@pytest.mark.slow
def test_a_page_keeps_up_on_a_terminal_until_ctrl_c(running: Running) -> None:
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [ENTENTE, "connect", "status", "--watch", "--state", running.state]
    watching = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"}
    )
    try:
        shown = b""
        for state in (b"RUNNING", b"PAUSED"):
            while state not in shown:
                shown += os.read(ours, 65_536)
            running.crashes.told = status(state=State.PAUSED)
        watching.send_signal(signal.SIGINT)
        while watching.poll() is None:
            if select.select([ours], [], [], 0.1)[0]:  # what is written must be read, or it never ends
                os.read(ours, 65_536)
        assert watching.returncode == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(its)
        os.close(ours)


def test_what_others_named_cannot_steer_a_terminal(running: Running) -> None:
    running.crashes.told = status(state=State.FAILED, cause="topic \x1b[2Jx\x9b31m\nRUNNING", tasks=())
    for form in ("table", "json", "jsonl"):
        for command in ("list", "status"):
            shown = running.run(command, "-o", form).stdout
            assert not set(shown) & {"\x1b", "\x9b", "\r"}
    assert all(
        "RUNNING" not in line[:10] for line in running.run("status", "-o", "table").stdout.splitlines()
    )


# -- the page -------------------------------------------------------------------------------------------------------


def rendered(*found: ConnectorStatus, rates: dict[str, float] | None = None) -> list[str]:
    console = Console(file=StringIO(), width=200, color_system=None, force_terminal=False)
    console.print(page(found, rates or {}, NOW_S))
    return cast(StringIO, console.file).getvalue().splitlines()


def test_a_row_tells_records_rate_lag_errors_and_success() -> None:
    row = rendered(status(), rates={"crashes": 123.4})[1]
    assert row.split() == [
        "crashes",
        "RUNNING",
        "3,000",
        "123",
        "14",
        "records,",
        "1",
        "min",
        "1",
        "5",
        "s",
        "ago",
    ]


def test_a_failed_task_has_a_row_with_its_cause_and_next_attempt() -> None:
    failed = task(0, State.FAILED, cause="no answer from kafka.example:9093", retry_at_s=NOW_S + 12)
    lines = rendered(status(state=State.FAILED, tasks=(failed,), cause="task 0: no answer"))
    assert "FAILED" in lines[1] and "task 0: no answer" in lines[1]
    assert "no answer from kafka.example:9093 (again in 12 s)" in lines[2]


def test_a_stalled_task_says_so() -> None:
    lines = rendered(status(state=State.DEGRADED, tasks=(task(0), task(1, stalled=True))))
    assert "something waits, and nothing moves" in lines[3]
    assert "something waits" not in lines[2]


def test_what_is_not_known_is_not_zero() -> None:
    fresh = task(0, progress=Progress())
    row = rendered(status(tasks=(fresh,)))[1]
    assert "unknown" in row and "never" in row


def test_no_connectors_are_said() -> None:
    assert "no connectors" in rendered()[1]


def test_rates_are_of_what_was_there_before() -> None:
    rates = Rates()
    assert rates.of([status()], 10.0) == {}
    more = status(tasks=(task(0, progress=Progress(records=3_500)),))
    assert rates.of([more, status("new")], 12.0) == {"crashes": 250.0}
    began_anew = status(tasks=(task(0, progress=Progress(records=1)),))
    assert rates.of([began_anew], 13.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (59.4, "59 s"), (61, "1 min"), (7_300, "2 h"), (200_000, "2 d")]
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text
