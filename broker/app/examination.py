"""Rulebooks in directories or archives, examined and compared by what the command line has at hand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.adapters.opa.tracer import OpaTracer
from broker.app.rulebook import find_opa
from broker.core.explain.explainer import Explainer, Known
from broker.core.explain.model import Explanation
from broker.core.explain.question import MadeUp, item_of
from broker.core.rulebook.archive import read_directory_or_archive
from broker.core.rulebook.check import check_rulebook
from broker.core.rulebook.difference import Change, compare
from broker.core.rulebook.examine import Examination, examine
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.scope import View
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


async def explain_in(path: Path, asked: MadeUp, opa: Path | None) -> Explanation:
    """Why the rulebook at `path` would decide so, with the eyes of who sees all.

    Raises RulebookRefused, NoDecision, EntenteError RECORD_TYPE_NOT_FOUND.
    """
    binary = find_opa(opa)
    revision = await asyncio.to_thread(read_directory_or_archive, path)
    if findings := await check_rulebook(OpaCompiler(binary), revision):
        raise RulebookRefused(findings)
    known = await Known.read(revision)
    item = item_of(asked, None, known.registry)
    return await Explainer(OpaTracer(binary)).explain(known, item, View(), time.time_ns() // 10**6)


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
