"""Starts the process that simulates a proposal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from broker.app.config import Backend
from broker.app.simulating import JOB, LEFT, LENGTH_BYTES, PRESENT, PROPOSED, Job
from broker.core.rulebook.pack import pack
from broker.core.simulate.desk import SimulationJob
from broker.errors import EntenteError, Reason
from protos.entente.v1.rulebook_pb2 import SimulateResponse

log = logging.getLogger(__name__)

TIMEOUT_S = 1_800.0
"""With a ledger of millions of entries reading takes minutes."""

GRACE_S = 10.0
"""For a process that is not needed any more to clear up; then it is killed."""

_MESSAGE_BYTES = 64 << 20


class SimulatorProcess:
    """Implements Simulator on the stores of one backend, which the process opens for reading only."""

    def __init__(
        self, opa: Path, backend: Backend, timeout_s: float = TIMEOUT_S, grace_s: float = GRACE_S
    ) -> None:
        self._opa = opa.absolute()
        self._backend = backend
        self._timeout_s = timeout_s
        self._grace_s = grace_s

    async def simulate(self, job: SimulationJob) -> AsyncGenerator[SimulateResponse, None]:
        """See Simulator."""
        try:
            with tempfile.TemporaryDirectory(prefix="entente-simulation-") as name:
                directory = Path(name)
                await asyncio.to_thread(self._lay_out, directory, job)
                process = await self._start(directory)
                try:
                    deadline_s = asyncio.get_running_loop().time() + self._timeout_s
                    while message := await _next(process, deadline_s):
                        yield SimulateResponse.FromString(message)
                finally:
                    await self._end(process)
        except TimeoutError:
            what = f"it takes longer than {self._timeout_s:g} s"
            raise EntenteError(Reason.SIMULATION_FAILED, what) from None
        except (OSError, EOFError):
            raise EntenteError(Reason.SIMULATION_FAILED, "the exchange could not make it") from None

    def _lay_out(self, directory: Path, job: SimulationJob) -> None:
        for name, revision in ((PRESENT, job.present), (PROPOSED, job.proposed)):
            with (directory / name).open("wb") as file:
                pack(revision.files, file)
        asked = Job(
            backend=self._backend,
            owner=job.owner,
            agency=job.agency,
            since_ms=job.since_ms,
            last=job.last,
            now_ms=job.now_ms,
        )
        (directory / JOB).write_text(asked.model_dump_json(exclude_unset=True))

    async def _start(self, directory: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "broker.app.simulating"),
            *(str(os.getpid()), str(directory), str(self._opa)),
            cwd=directory,
            env={"TMPDIR": tempfile.gettempdir()},  # its engines' sockets want paths as short as the broker's
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Ask it to end its engines and to clear up; end it if it does not."""
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            status = await asyncio.wait_for(process.wait(), self._grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await process.wait()
        if status not in (0, LEFT):
            log.warning("a simulation ended with the exit status %d", status)


async def _next(process: asyncio.subprocess.Process, deadline_s: float) -> bytes:
    """The next message; b"" after the last. Raises TimeoutError, and EOFError if the process ends too early."""
    if process.stdout is None:
        raise EOFError
    async with asyncio.timeout_at(deadline_s):
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        if length > _MESSAGE_BYTES:
            raise EOFError
        return await process.stdout.readexactly(length)
