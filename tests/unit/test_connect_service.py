"""The unit for systemd names the program as it is, and gives connectors the time that they take."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest
import typer

from connectors.cli.connect import connect
from connectors.cli.failures import ExitCode
from connectors.runtime.clock import Pace
from connectors.runtime.directory import socket_path
from connectors.runtime.run import END_LIMIT_S

UNIT = Path(__file__).parents[2] / "deploy" / "entente-connect.service"


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_it_waits_as_long_as_the_runtime_may_take(service: configparser.SectionProxy) -> None:
    pace = Pace()
    assert int(service["TimeoutStopSec"]) >= pace.stop_s + pace.cancel_s + END_LIMIT_S
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))


def test_it_runs_the_program_with_options_that_it_has(service: configparser.SectionProxy) -> None:
    shell, _, command = service["ExecStart"].partition("exec ")
    assert shell == "/bin/sh -c '"
    program, run, files, *arguments = shlex.split(command.removesuffix("'"))
    assert Path(program).name == "entente-connect"
    found = typer.main.get_command(connect).commands  # type: ignore[attr-defined]
    assert run == "run"
    options = {option for each in found["run"].params for option in each.opts}
    assert {each for each in arguments if each.startswith("-")} <= options
    assert files == f"/etc/{service['ConfigurationDirectory']}/*.toml"


def test_its_state_is_its_own(service: configparser.SectionProxy) -> None:
    directory = re.search(r"--state (\S+)", service["ExecStart"])
    assert directory is not None
    assert directory[1] == f"/var/lib/{service['StateDirectory']}"
    assert service["StateDirectoryMode"] == "0700"
    assert socket_path(Path(directory[1]))
