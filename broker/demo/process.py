"""The demo's own exchange: made in a temporary directory, served by a child process, and gone afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, TypeVar, cast

import tomli_w

import broker
from broker.app.initialise import initialise
from broker.app.new_directory import InitialiseRefused

T = TypeVar("T")
BackendName = Literal["embedded", "kafka"]
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_PORTS = range(15_000, 32_000, 2)
_LAUNCHER = Path(broker.__file__).parents[1] / "deploy" / "kafka" / "node.py"


class DemoFailed(Exception):
    """The demo could not run to its end; one line: what is wrong and what to do."""


@contextmanager
def prepared(backend: BackendName, kafka: str | None) -> Iterator[Path]:
    """The configuration file of a new exchange; everything is removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="entente-demo-") as temporary, ended_by_sigterm():
        directory = Path(temporary)
        if backend == "kafka" and kafka is None:
            with _kafka_node(directory / "kafka") as bootstrap:
                yield _initialise(directory / "exchange", backend, bootstrap)
        else:
            yield _initialise(directory / "exchange", backend, kafka)


@contextmanager
def served(config: Path) -> Iterator[str]:
    """Serve the exchange in a child process inside the block; gives the address. Raises DemoFailed."""
    log_path = config.parent / "serve.log"
    command = [sys.executable, "-m", "broker.cli", "serve", "--config", str(config), "-o", "jsonl"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        yield _wait_until_ready(process, log_path)
        if process.poll() is not None:
            raise DemoFailed(f"the exchange ended early: {_last_line(log_path)}")
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the child to drain, and end it if it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> str:
    if process.stdout is None:  # pragma: no cover - it was opened as a pipe
        raise AssertionError("no pipe")
    readable, _, _ = select.select([process.stdout], [], [], READY_TIMEOUT_S)
    line = process.stdout.readline() if readable else b""
    if not line:
        what = "did not start" if readable else f"was not ready after {READY_TIMEOUT_S:.0f} s"
        raise DemoFailed(f"the exchange {what}: {_last_line(log_path)}")
    return str(json.loads(line)["tls_address"])


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _initialise(directory: Path, backend: BackendName, kafka: str | None) -> Path:
    try:
        made = initialise(directory, f"127.0.0.1:{free_port_pair()}", backend, kafka)
    except InitialiseRefused as error:
        raise DemoFailed(str(error)) from None
    if kafka is not None:
        _use_own_topics(made.config)
    return made.config


def _use_own_topics(config: Path) -> None:
    """A prefix of its own, so that no other exchange on that Kafka is touched."""
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    document["backend"]["kafka"]["prefix"] = f"entente-demo-{secrets.token_hex(4)}."
    config.write_text(tomli_w.dumps(document), encoding="utf-8")


def topic_prefix(config: Path) -> str:
    """How the names of the exchange's topics on Kafka begin."""
    return str(tomllib.loads(config.read_text(encoding="utf-8"))["backend"]["kafka"]["prefix"])


def free_port_pair() -> int:
    """A port on loopback that is free together with the next one (for mTLS).

    Below the range from which systems give ports to outgoing connections, one of which could take it meanwhile.
    """
    for _ in range(100):
        port = secrets.choice(_PORTS)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise DemoFailed("no two free neighbouring ports on 127.0.0.1; close something that listens there")


@contextmanager
def _kafka_node(directory: Path) -> Iterator[str]:
    """The checkout's own Kafka node, running inside the block."""
    spec = importlib.util.spec_from_file_location("entente_kafka_node", _LAUNCHER)
    if spec is None or spec.loader is None or not _LAUNCHER.is_file():
        raise DemoFailed("no Kafka here; name one with --kafka HOST:PORT, or run from a whole checkout")
    launcher = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = launcher
    spec.loader.exec_module(launcher)
    port = free_port_pair()
    node = launcher.KafkaNode(directory, port=port, controller_port=port + 1)
    try:
        try:
            node.start()
        except launcher.KafkaUnavailable as error:
            raise DemoFailed(str(error)) from None
        yield cast("str", node.bootstrap)
    finally:
        node.stop()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Inside the block SIGTERM does what Ctrl-C does: children are ended and files removed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(
            signal.SIGINT
        )  # asyncio cancels its main task for it; elsewhere it unwinds the stack

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_until_done(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """asyncio.run, with SIGTERM held back until the loop runs: a half-made loop cannot be unwound in order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    async def unmasked() -> T:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return await work()

    try:
        return asyncio.run(unmasked())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
