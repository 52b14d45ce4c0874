"""The rulebook at start: read, check, store; a broker does not start on one with findings."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.opa.check import OpaCompiler
from broker.app.config import Rulebook
from broker.core.rulebook.check import check_rulebook
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.registry import parse_registry
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_store import RulebookStore


@dataclass(frozen=True, slots=True)
class PreparedRulebook:
    """A revision that passed all checks, and what it registers."""

    revision: Revision
    registry: Registry


def find_opa(configured: Path | None) -> Path:
    """The OPA binary: as configured, else beside this Python, else on PATH. Raises RulebookRefused."""
    beside = Path(sys.executable).with_name("opa")
    on_path = shutil.which("opa")
    for candidate in (configured, beside, Path(on_path) if on_path else None):
        if candidate is not None and candidate.is_file():
            return candidate
    raise RulebookRefused(("opa: no such program; run 'make setup', or set rulebook.opa to its path",))


async def prepare_rulebook(settings: Rulebook, opa: Path, store: RulebookStore) -> PreparedRulebook:
    """Read and check the rulebook, and keep it for later replay. Raises RulebookRefused with every finding."""
    revision = await asyncio.to_thread(read_rulebook, settings.directory)
    findings = await check_rulebook(OpaCompiler(opa), revision)
    if findings:
        raise RulebookRefused(findings)
    registry = parse_registry(revision)
    await store.put(revision)
    return PreparedRulebook(revision, registry)
