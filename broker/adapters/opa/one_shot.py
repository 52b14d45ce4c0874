"""One bounded run of the `opa` program on rules that nobody may trust yet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.opa.settings import OpaSettings

_LAUNCH = Path(__file__).with_name("launch.py")
_OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024


class RunFailed(Exception):
    """The run did not end well; one line: why."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a run left: its exit code and what it wrote."""

    code: int
    output: bytes
    errors: bytes


@dataclass(frozen=True, slots=True)
class OneShot:
    """Runs of one binary, each ended with the broker, with its time, or beyond its memory."""

    opa: Path
    settings: OpaSettings

    async def run(
        self, directory: Path, arguments: Sequence[str], *, timeout_s: float, given: bytes = b""
    ) -> Done:
        """Run `opa` with `arguments` in `directory`, with an empty environment. Raises RunFailed."""
        command = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        command += [str(self.settings.memory_limit_bytes), str(self.settings.garbage_percent)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(self.opa.absolute()),
                *arguments,
                cwd=directory,
                env={},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise RunFailed(f"{self.opa} cannot be started ({error.strerror})") from None
        try:
            async with asyncio.timeout(timeout_s):
                return await _finish(process, given)
        except TimeoutError:
            raise RunFailed(f"it took longer than {timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _finish(process: asyncio.subprocess.Process, given: bytes) -> Done:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RunFailed("it has no pipes")  # pragma: no cover -- `run` always asks for them
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()
    output, errors = await asyncio.gather(_read(process.stdout), _read(process.stderr))
    return Done(await process.wait(), output, errors)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """All that is written, up to the limit."""
    read = bytearray()
    while chunk := await stream.read(65536):
        read += chunk
        if len(read) > _OUTPUT_LIMIT_BYTES:
            raise RunFailed(f"it wrote more than {_OUTPUT_LIMIT_BYTES} bytes")
    return bytes(read)
