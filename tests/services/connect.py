"""Connectors as an agency runs them: `entente connect run` in a process of its own, with a file, a token and a cluster."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from broker.adapters.clock import SystemClock
from broker.app.tokens import token_for_context
from connectors.runtime.control_client import ControlClient
from connectors.runtime.status import ConnectorStatus
from tests.services.broker import ENTENTE, BrokerProcess

Table = Mapping[str, Any]

_PATIENCE_S = 180.0
"""A task that has failed starts again after at most a minute."""

_POLL_S = 0.05


class ConnectProcess:
    """Runs the connectors of one file; can be killed and started again, and then goes on with the same state."""

    def __init__(
        self, directory: Path, connectors: Mapping[str, Table], *, options: Iterable[str] = ()
    ) -> None:
        directory.mkdir()
        self.directory = directory
        self.file = directory / "connect.toml"
        self.file.write_text(tomli_w.dumps({"connectors": connectors}))
        self.state = directory / "state"
        self._options = tuple(options)
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def command_line(self) -> str:
        """As every user of the machine can see it."""
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().decode()

    def start(self) -> str:
        """Start it and wait until it says that it is ready; what it says."""
        command: list[str | Path] = [
            ENTENTE,
            "connect",
            "run",
            self.file,
            "--state",
            self.state,
            "-o",
            "jsonl",
        ]
        with (self.directory / "connect.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.kill()
        assert line, f"the connectors did not start: {self.log()[-2000:]}"
        return line

    def kill(self) -> None:
        """kill -9, at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._close_output()

    def stop(self) -> int:
        """SIGTERM, and wait until all has drained; the exit code. Nothing if it does not run."""
        if not self.running or self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(_PATIENCE_S)
        self._close_output()
        return code

    def _close_output(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.stdout.close()

    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.directory / "connect.log").read_text()

    def control(self) -> ControlClient:
        """Of the running process."""
        return ControlClient(self.state)

    async def until(self, name: str, met: Callable[[ConnectorStatus], bool]) -> ConnectorStatus:
        """The first status of a connector that satisfies `met`; raises AssertionError with the last one if none does."""
        give_up_at = time.monotonic() + _PATIENCE_S
        async with self.control() as control:
            while not met(status := await control.status(name)):
                assert time.monotonic() < give_up_at, f"still {status}; {self.log()[-2000:]}"
                await asyncio.sleep(_POLL_S)
        return status


def run_connect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command of `entente connect`."""
    return subprocess.run(
        [ENTENTE, "connect", *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )


class TokenFile:
    """A token of a sample principal, in a file that only its owner may read."""

    def __init__(self, broker: BrokerProcess, context: str, *, ttl_s: int = 3_600) -> None:
        self.path = broker.directory / f"{context}.jwt"
        self._broker = broker
        self._context = context
        self.renew(ttl_s=ttl_s)

    def renew(self, *, ttl_s: int = 3_600) -> None:
        """Put a new one in its place, at once and whole."""
        config = self._broker.config
        context = config.contexts[self._context]
        assert context.development is not None
        development = context.development.model_copy(update={"ttl_s": ttl_s})
        chosen = context.model_copy(update={"development": development})
        token = token_for_context(chosen, config.exchange.audience, SystemClock())
        assert token is not None
        new = self.path.with_suffix(".new")
        new.write_text(token)
        new.chmod(0o600)
        new.replace(self.path)

    def exchange(self) -> Table:
        """The table `exchange` of a connector that calls as this principal."""
        return {
            "endpoint": self._broker.config.listen.tls,
            "ca_file": str(self._broker.directory / "tls" / "ca.pem"),
            "token_file": str(self.path),
        }


def on_loopback(bootstrap: str) -> Table:
    """The table `kafka` of a connector whose agency's cluster is a test's node."""
    return {"bootstrap": [bootstrap], "insecure_plaintext": True}
