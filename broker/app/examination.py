"""Rulebooks in directories or archives, examined and compared by what the command line has at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.app.rulebook import find_opa
from broker.core.rulebook.archive import read_directory_or_archive
from broker.core.rulebook.difference import Change, compare
from broker.core.rulebook.examine import Examination, examine
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.syntax import remembering
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision


async def examine_rulebook(path: Path, opa: Path | None) -> Examination:
    """Everything that is found about the rulebook at `path`. opa: the binary, if it is not the one beside this Python.

    Raises RulebookRefused if there is no OPA, or another one.
    """
    binary = find_opa(opa)
    compiler = OpaCompiler(binary)
    if unfit := await asyncio.to_thread(compiler.version_findings):
        raise RulebookRefused(tuple(unfit))
    try:
        revision = await asyncio.to_thread(read_directory_or_archive, path)
    except RulebookRefused as refused:
        return Examination("", tuple(map(Finding.read, refused.findings)))
    return await examine(compiler, OpaTrials(binary), revision)


def compare_rulebooks(old: Path, new: Path, opa: Path | None) -> tuple[Change, ...]:
    """Everything that is different.

    Raises RulebookRefused for what cannot be read, its path first, and if there is no OPA, or another one. Blocking.
    """
    compiler = OpaCompiler(find_opa(opa))
    if unfit := compiler.version_findings():
        raise RulebookRefused(tuple(unfit))
    parse = remembering(compiler.parse)
    return compare(_read(old), _read(new), parse)


def _read(path: Path) -> Revision:
    try:
        return read_directory_or_archive(path)
    except RulebookRefused as refused:
        raise RulebookRefused(tuple(f"{path}: {finding}" for finding in refused.findings)) from None
