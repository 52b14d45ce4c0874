"""Puts the two revisions of a simulation on trial, each only after the checks that keep its rules from doing harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.core.rulebook.check import check_modules, read_registry
from broker.core.rulebook.syntax import remembering
from broker.core.simulate.model import Side, SimulationFailed
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_compiler import RulebookCompiler
from broker.ports.rulebook_trial import TrialEngines, TrialFailed


@asynccontextmanager
async def on_trial(
    compiler: RulebookCompiler, engines: TrialEngines, revision: Revision, *, is_new: bool
) -> AsyncIterator[Side]:
    """A side inside the block. is_new: check what may be activated next; else only whether it may run.

    A revision that was in force before another version of these checks is compared with as it is.
    Raises RulebookRefused with every finding, SimulationFailed.
    """
    registry = await asyncio.to_thread(_checked, compiler, revision, is_new)
    try:
        trial = await engines.start(revision)
    except TrialFailed as failed:
        raise SimulationFailed(f"the rules do not run: {failed}; see `entente rulebook check`") from None
    try:
        yield Side(revision, registry, trial)
    finally:
        await trial.close()


def _checked(compiler: RulebookCompiler, revision: Revision, is_new: bool) -> Registry:
    registry = read_registry(revision)
    findings = (
        check_modules(compiler, remembering(compiler.parse), revision, registry)
        if is_new
        else tuple(compiler.compile(revision))
    )
    if findings:
        raise RulebookRefused(findings)
    return registry
