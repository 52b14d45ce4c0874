"""Rulebooks in a directory or an archive, examined or compared by what the command line has at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.app.rulebook import find_opa
from broker.core.rulebook.archive import read_directory_or_archive
from broker.core.rulebook.examine import Examination, examine
from broker.core.rulebook.findings import Finding
from broker.errors import RulebookRefused


async def examine_rulebook(path: Path, opa: Path | None) -> Examination:
    """Everything that is found about the rulebook at `path`. opa: the binary, if it is not the one beside this Python.

    Raises RulebookRefused if there is no OPA.
    """
    binary = find_opa(opa)
    try:
        revision = await asyncio.to_thread(read_directory_or_archive, path)
    except RulebookRefused as refused:
        return Examination("", tuple(map(Finding.read, refused.findings)))
    return await examine(OpaCompiler(binary), OpaTrials(binary), revision)
