"""Whether a rulebook may become a revision: all that is checked without running it, in one place."""

from __future__ import annotations

import asyncio

from broker.core.rulebook.complexity import check_complexity
from broker.core.rulebook.ownership import check_ownership
from broker.core.rulebook.read_before import ReadBefore
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.syntax import ParseModule, remembering
from broker.core.rulebook.texts import check_texts
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_compiler import RulebookCompiler


async def check_rulebook(compiler: RulebookCompiler, revision: Revision) -> tuple[str, ...]:
    """Every reason why this revision may not be used, one line each; none is good.

    1. Its files are texts that read as they run. 2. Its data registers what it uses. 3. No module is too large or too deep
    to be looked at. 4. The engine compiles them, with the permitted built-ins only. 5. Each keeps to what its agency
    owns, and none refers to the time unless the manifest says so. 6. The keys that agencies name are there.
    """
    return await asyncio.to_thread(_findings, compiler, revision)


def read_registry(revision: Revision, before: ReadBefore | None = None) -> Registry:
    """What a revision of readable texts registers; before: see `parse_registry`. Raises RulebookRefused."""
    if unreadable := tuple(check_texts(revision.files)):
        raise RulebookRefused(unreadable)
    return parse_registry(revision, before)


def check_modules(
    compiler: RulebookCompiler, parse: ParseModule, revision: Revision, registry: Registry
) -> tuple[str, ...]:
    """Every reason why the modules of a revision that registers this may not be used."""
    if complex_modules := check_complexity(revision.files, parse):
        return tuple(map(str, complex_modules))
    owned = check_ownership(
        revision.files, parse, agencies=registry.agencies, time_dependent=revision.time_dependent
    )
    return (*compiler.compile(revision), *map(str, owned), *_missing_keys(revision, registry))


def _findings(compiler: RulebookCompiler, revision: Revision) -> tuple[str, ...]:
    try:
        registry = read_registry(revision)
    except RulebookRefused as refused:
        return refused.findings
    return check_modules(compiler, remembering(compiler.parse), revision, registry)


def _missing_keys(revision: Revision, registry: Registry) -> list[str]:
    return [
        f"data/agencies/{agency.name}/data.yaml: issuers: {issuer.jwks_file} is missing; put the issuer's keys there"
        for agency in registry.agencies.values()
        for issuer in agency.issuers
        if issuer.jwks_file is not None and issuer.jwks_file not in revision.files
    ]
