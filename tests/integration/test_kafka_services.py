"""`make services` and `make services-stop`: Kafka for hand use, by its own process id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.kafka.node import is_ready
from tests.services.ports import free_port

NODE = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "node.py"
pytestmark = pytest.mark.kafka


def _node(action: str, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(NODE), action, "--data", str(data), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_it_is_started_once_and_stopped_by_its_process_id(tmp_path: Path) -> None:
    port = free_port(2)
    options = ("--port", str(port), "--controller-port", str(port + 1))
    try:
        started = _node("start", tmp_path, *options)
        assert (started.returncode, started.stderr) == (0, "")
        assert f"Kafka is ready on 127.0.0.1:{port}" in started.stdout
        again = _node("start", tmp_path, *options)
        assert again.returncode == 1
        assert "already serves Kafka" in again.stderr
    finally:
        stopped = _node("stop", tmp_path)
    assert stopped.returncode == 0
    assert not is_ready(port)
    assert not (tmp_path / "kafka.pid").exists()
    assert _node("stop", tmp_path).stdout == "Kafka is not running here\n"


def test_a_process_id_that_belongs_to_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kafka.pid").write_text(f"{os.getpid()}\n")
    assert _node("stop", tmp_path).returncode == 0
    assert not (tmp_path / "kafka.pid").exists()
