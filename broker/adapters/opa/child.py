"""One OPA server as a supervised child process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.opa.bundle import guard_bundle
from broker.adapters.opa.settings import OpaSettings

_LOG = logging.getLogger(__name__)
_LAUNCH = Path(__file__).with_name("launch.py")
_SOCKET_PATH_LIMIT = 107  # sizeof(sun_path) - 1, unix(7)
_LOG_LINES = 8
_LOG_LINE_CHARACTERS = 300
_POLL_S = 0.005

RULEBOOK_NAME = "rulebook.tar.gz"
"""The name under which OPA reports the rulebook's revision."""


class OpaStartFailed(Exception):
    """OPA did not come up; the message is one line and holds nothing of any input."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a running OPA is asked: a socket that only this user can reach, and the token that it wants."""

    socket: Path
    token: str


class OpaProcess:
    """One run of OPA: from launch to exit. Its directory (mode 0700) holds the socket and nothing else once it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.process = process
        self._directory = directory
        self._last_lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._drain = asyncio.create_task(self._drain_log())

    @classmethod
    async def launch(cls, opa: Path, bundle: bytes, settings: OpaSettings) -> OpaProcess:
        """Start OPA on `bundle`; it may not answer yet. Raises OpaStartFailed."""
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="entente-opa-"))
        try:
            endpoint = Endpoint(directory / "opa.sock", secrets.token_urlsafe(32))
            if len(os.fsencode(endpoint.socket)) > _SOCKET_PATH_LIMIT:
                raise OpaStartFailed(
                    f"{endpoint.socket}: too long for a socket; set TMPDIR to a shorter path"
                )
            await asyncio.to_thread(_write, directory, bundle, endpoint.token)
            return cls(await _spawn(opa, directory, settings), directory, endpoint)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    async def wait_until_ready(self, ask: Callable[[Endpoint], Awaitable[bool]], timeout_s: float) -> None:
        """Wait until `ask` gets a right answer, then remove the bundles from disk. Raises OpaStartFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (self.endpoint.socket.exists() and await ask(self.endpoint)):
                    if self.process.returncode is not None:
                        await self._drain
                        raise OpaStartFailed(f"OPA ended with {self.process.returncode}: {self._said()}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise OpaStartFailed(f"OPA gave no right answer within {timeout_s} s: {self._said()}") from None
        for path in self._directory.glob("*.tar.gz"):
            path.unlink()

    async def stop(self) -> None:
        """Kill OPA and remove its directory; idempotent. Nothing is lost: it holds no state."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._drain
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _drain_log(self) -> None:
        """Read OPA's log so that it never blocks; the last lines are kept for a failed start only."""
        stream = self.process.stdout
        if stream is None:  # pragma: no cover -- `_spawn` always asks for a pipe
            return
        while chunk := await stream.read(65536):
            if self.endpoint.socket.exists():
                self._last_lines.clear()  # it serves now: whatever it says could be about an input
                continue
            for line in chunk.decode(errors="replace").splitlines():
                self._last_lines.append(line[:_LOG_LINE_CHARACTERS])

    def _said(self) -> str:
        return " | ".join(self._last_lines) or "it said nothing"


def _write(directory: Path, bundle: bytes, token: str) -> None:
    (directory / RULEBOOK_NAME).write_bytes(bundle)
    (directory / "guard.tar.gz").write_bytes(guard_bundle(token))


async def _spawn(opa: Path, directory: Path, settings: OpaSettings) -> asyncio.subprocess.Process:
    command = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
    command += [str(settings.memory_limit_bytes), str(settings.garbage_percent)]
    command += [
        str(opa),
        "run",
        "--server",
        "--addr",
        "unix://opa.sock",
        "--unix-socket-perm",
        "600",
    ]
    command += ["--authentication", "token", "--authorization", "basic", "--skip-version-check"]
    command += ["--log-level", "error", "-b", RULEBOOK_NAME, "-b", "guard.tar.gz"]
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env={},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the broker alone, which still needs decisions while it drains
        )
    except OSError as error:
        raise OpaStartFailed(
            f"{opa}: cannot be started ({error.strerror}); check policy.opa_binary"
        ) from None


class OpaChild:
    """Keeps one OPA running: restarts it when it ends, and says whether it may be asked now."""

    def __init__(
        self, opa: Path, bundle: bytes, settings: OpaSettings, ask: Callable[[Endpoint], Awaitable[bool]]
    ) -> None:
        self._opa = opa.absolute()  # the child runs in a directory of its own
        self._bundle = bundle
        self._settings = settings
        self._ask = ask
        self._running: OpaProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """Where OPA answers now; None while it is down."""
        running = self._running
        return running.endpoint if running is not None and running.process.returncode is None else None

    @property
    def pid(self) -> int | None:
        """The process id of the OPA that answers now."""
        return self._running.process.pid if self._running is not None else None

    async def start(self) -> None:
        """Start OPA and wait until it answers. Raises OpaStartFailed; afterwards failures are retried for good."""
        self._running = await self._launch()
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """Stop OPA for good; idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        running, self._running = self._running, None
        self._bundle = b""  # of a large rulebook tens of megabytes, for nobody
        if running is not None:
            await running.stop()

    async def _launch(self) -> OpaProcess:
        process = await OpaProcess.launch(self._opa, self._bundle, self._settings)
        try:
            await process.wait_until_ready(self._ask, self._settings.start_timeout_s)
        except BaseException:
            await process.stop()
            raise
        return process

    def kill(self) -> None:
        """End this run of OPA, which answers nothing any more; the supervisor starts another."""
        running = self._running
        if running is not None:
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()

    async def _supervise(self) -> None:
        delay_s = self._settings.restart_first_s
        loop = asyncio.get_running_loop()
        while (running := self._running) is not None:
            began_s = loop.time()
            returncode = await running.process.wait()
            _LOG.error("the policy engine ended with %s; it is started again", returncode)
            self._running = None
            await running.stop()
            # One that ends soon after each start would otherwise be started without a pause.
            lasted = loop.time() - began_s > self._settings.restart_most_s
            delay_s = self._settings.restart_first_s if lasted else self._longer(delay_s)
            self._running = await self._relaunch(delay_s)
            self.restarts += 1

    async def _relaunch(self, delay_s: float) -> OpaProcess:
        while True:
            await asyncio.sleep(delay_s)
            try:
                return await self._launch()
            except Exception as error:  # noqa: BLE001 -- whatever it is, without another try the engine stays down
                delay_s = self._longer(delay_s)
                _LOG.error("the policy engine does not start, next try in %s s: %s", delay_s, error)

    def _longer(self, delay_s: float) -> float:
        return min(2 * delay_s, self._settings.restart_most_s)
