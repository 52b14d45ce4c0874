"""Starts the process that examines a proposal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import orjson

from broker.app.examining import PRESENT, PROPOSED
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.pack import pack
from broker.core.rulebook.proposals import Check, SaidOf, read_check
from broker.core.rulebook.scope import WHOLE
from broker.model.rulebook import Revision

TIMEOUT_S = 1_800.0
"""A rulebook of a million agreements takes minutes; one that takes longer is refused."""


class ExaminerProcess:
    """Implements Examiner."""

    def __init__(self, opa: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._opa = opa.absolute()
        self._timeout_s = timeout_s

    async def examine(self, present: Revision, proposed: Revision, agency: str | None) -> Check:
        """See Examiner."""
        try:
            with tempfile.TemporaryDirectory(prefix="entente-proposal-") as name:
                directory = Path(name)
                await asyncio.to_thread(_lay_out, directory, present, proposed)
                output = await self._run(directory, agency)
            return read_check(orjson.loads(output))
        except TimeoutError:
            what = f"checking it takes longer than {self._timeout_s:g} s"
        except (OSError, ValueError, KeyError, TypeError):
            what = "the exchange could not check it"
        finding = Finding(WHOLE, None, what, "propose it again, or make it simpler")
        return Check(False, (SaidOf(finding, what),))

    async def _run(self, directory: Path, agency: str | None) -> bytes:
        arguments = [str(os.getpid()), str(directory), str(self._opa), *([] if agency is None else [agency])]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "broker.app.examining", *arguments),
            cwd=directory,
            env={},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            raise ValueError("the examination did not end well")
        return output


def _lay_out(directory: Path, present: Revision, proposed: Revision) -> None:
    for name, revision in ((PRESENT, present), (PROPOSED, proposed)):
        with (directory / name).open("wb") as file:
            pack(revision.files, file)
