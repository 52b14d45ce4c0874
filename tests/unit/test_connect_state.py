"""What a state directory holds outlives the process, is its owner's alone, and is used by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.runtime.desired import DesiredStates
from connectors.runtime.directory import StateDirectoryRefused, locked, socket_path
from connectors.runtime.model import State
from tests.fakes.connecting import begun, rig, until


def test_what_is_wanted_is_read_again_and_others_are_kept(tmp_path: Path) -> None:
    first = DesiredStates.read(tmp_path)
    assert first.of("crashes") is State.RUNNING
    first.set("crashes", State.PAUSED)
    first.set("intake", State.STOPPED)
    second = DesiredStates.read(tmp_path)
    second.set("crashes", State.RUNNING)
    third = DesiredStates.read(tmp_path)
    assert (third.of("crashes"), third.of("intake")) == (State.RUNNING, State.STOPPED)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 2, "connectors": {}}',
        '{"version": 1, "connectors": []}',
        '{"version": 1, "connectors": {"crashes": "DEGRADED"}}',
        '{"version": 1, "connectors": {"crashes": 5}}',
    ],
)
def test_a_state_that_is_not_understood_lets_nothing_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(StateDirectoryRefused, match=r"state\.json: cannot be understood.*delete it"):
        DesiredStates.read(tmp_path)


def test_a_state_that_cannot_be_read_lets_nothing_run(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(StateDirectoryRefused, match=r"state\.json: Is a directory; make it readable"):
        DesiredStates.read(tmp_path)


def test_what_cannot_be_written_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = DesiredStates.read(tmp_path)
    states.set("crashes", State.PAUSED)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        states.set("crashes", State.STOPPED)
    assert states.of("crashes") is State.PAUSED
    assert DesiredStates.read(tmp_path).of("crashes") is State.PAUSED


async def test_paused_and_stopped_connectors_begin_as_they_were(tmp_path: Path) -> None:
    async with begun(rig(tmp_path)) as one:
        await one.supervised.pause()
    async with begun(rig(tmp_path)) as one:
        await until(lambda: one.connector.inside == [1])
        assert one.supervised.status().state is State.PAUSED
        await one.supervised.stop()
    async with begun(rig(tmp_path)) as one:
        assert one.supervised.status().state is State.STOPPED
        assert one.connector.attempts == [[]]
        assert one.exchange.opened == 0


def test_one_process_holds_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    program = (
        "import sys; from pathlib import Path; from connectors.runtime.directory import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    with locked(directory):
        assert directory.stat().st_mode & 0o777 == 0o700
        other = subprocess.run(
            [sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=False
        )
        assert other.returncode == 1
        assert "another process runs connectors there; end it, or choose another with --state" in other.stderr
    with locked(directory):
        pass


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(StateDirectoryRefused, match=r"others may enter it; chmod 700"), locked(tmp_path):
        pass


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateDirectoryRefused, match=r"choose a directory"),
        locked(tmp_path / "file" / "state"),
    ):
        pass


def test_a_socket_path_is_bounded(tmp_path: Path) -> None:
    fits = Path("/" + "d" * (107 - len("//control.sock")))
    assert len(str(socket_path(fits))) == 107
    with pytest.raises(
        StateDirectoryRefused, match=r"is 108 bytes long and a Unix socket's path at most 107"
    ):
        socket_path(Path(f"{fits}d"))
