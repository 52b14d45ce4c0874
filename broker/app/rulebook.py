"""The rulebook at start: read, check, store; a broker does not start on one with findings."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from broker.adapters.opa.check import OpaCompiler
from broker.app.config import Rulebook
from broker.core.rulebook.check import check_modules, read_registry
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.read_before import ReadBefore
from broker.core.rulebook.syntax import PackedTrees, remembering
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_store import RulebookStore

log = logging.getLogger(__name__)


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


class RulebookDoor:
    """What may become a regime here: it passed all checks that need no run, by the OPA that will run it."""

    def __init__(self, opa: Path, store: RulebookStore) -> None:
        self._compiler = OpaCompiler(opa)
        self._parse = PackedTrees(self._compiler.parse)
        self._store = store
        self._passed: set[str] = set()
        self._read_before = ReadBefore()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def at_start(self, settings: Rulebook, active: str | None) -> PreparedRulebook:
        """What is in force, or if nothing is yet, the directory's. Raises RulebookRefused, StorageUnavailable."""
        if active is None:
            return await self.from_directory(settings.directory)
        found = await self.stored(active)
        if not settings.insecure_from_directory:
            await _compare(settings.directory, active)
        return found

    async def from_directory(self, directory: Path) -> PreparedRulebook:
        """Read it, and keep it for later replay. Raises RulebookRefused with every finding, StorageUnavailable."""
        revision = await asyncio.to_thread(read_rulebook, directory)
        prepared = await self._let_in(revision, with_tests=True)
        await self._store.put(revision)
        return prepared

    async def stored(self, revision_id: str) -> PreparedRulebook:
        """A revision of the store, which is not believed either. Raises RulebookRefused, StorageUnavailable."""
        return await self._let_in(await self._from_store(revision_id), with_tests=False)

    async def _from_store(self, revision_id: str) -> Revision:
        try:
            revision = await self._store.get(revision_id)
        except ValueError as error:
            raise RulebookRefused((str(error),)) from None
        if revision is None:
            missing = (
                f"revision {revision_id} is not in the store of rulebooks; restore the store from a copy"
            )
            raise RulebookRefused((missing,))
        return revision

    async def look_ahead(self, revision_id: str) -> None:
        """Check a revision of the store before somebody waits for it. Raises as `stored` does."""
        if revision_id not in self._passed:
            await self.stored(revision_id)

    async def _let_in(self, revision: Revision, *, with_tests: bool) -> PreparedRulebook:
        """with_tests: look at them too, which decide nothing; of what is stored that was done when it was proposed."""
        registry = await asyncio.to_thread(read_registry, revision, self._read_before)
        # Whoever activates what is looked at ahead just now goes on with that check.
        async with self._turns.setdefault(revision.id, asyncio.Lock()):
            if revision.id not in self._passed:
                checked = revision if with_tests else _without_tests(revision)
                await asyncio.to_thread(self._check, checked, registry)
                self._passed.add(revision.id)
        return PreparedRulebook(revision, registry)

    def _check(self, revision: Revision, registry: Registry) -> None:
        """Each revision is checked once, as it never changes."""
        if findings := check_modules(self._compiler, remembering(self._parse), revision, registry):
            raise RulebookRefused(findings)


def _without_tests(revision: Revision) -> Revision:
    files = {path: content for path, content in revision.files.items() if not path.endswith("_test.rego")}
    return replace(revision, files=files)


async def _compare(directory: Path, active: str) -> None:
    """Whoever edited the directory should know that it changes nothing by itself."""
    try:
        found = (await asyncio.to_thread(read_rulebook, directory)).id
    except RulebookRefused as error:
        found = f"none: {error.findings[0]}" if error.findings else "none"
    if found != active:
        log.warning(
            "%s is not the rulebook in force (revision %s, there: %s); propose it with 'entente rulebook propose'",
            directory,
            active,
            found,
        )
