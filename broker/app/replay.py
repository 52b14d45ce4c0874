"""Engines for replay: one OPA for each recorded pair of revision and version, started when it is asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.adapters.opa import OpaCompiler, OpaEngine, OpaSettings, OpaStartFailed
from broker.core.audit.replay import EngineMissing
from broker.errors import RulebookRefused, StorageUnavailable
from broker.model.rulebook import Rules
from broker.ports.rulebook_store import RulebookReader

_RUNNING = 2
"""Entries of two instances may be of two revisions side by side; more are started again when they are needed."""

_SETTINGS = OpaSettings(deadline_s=60.0, stuck_after_s=120.0)


class OpaEngines:
    """Implements ReplayEngines on OPA children; leaving the context ends them."""

    def __init__(self, opas: Sequence[Path], rulebooks: RulebookReader) -> None:
        self._opas = opas
        self._rulebooks = rulebooks
        self._versions: dict[str, Path] | None = None
        self._running: OrderedDict[Rules, OpaEngine] = OrderedDict()
        self._missing: dict[Rules, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            await self._running.popitem()[1].close()

    async def engine(self, rules: Rules) -> OpaEngine:
        """See ReplayEngines."""
        running = self._running.get(rules)
        if running is not None:
            self._running.move_to_end(rules)
            return running
        if rules in self._missing:
            raise EngineMissing(self._missing[rules])
        try:
            running = await self._start(rules)
        except EngineMissing as missing:
            self._missing[rules] = str(missing)
            raise
        self._running[rules] = running
        if len(self._running) > _RUNNING:
            await self._running.popitem(last=False)[1].close()
        return running

    async def _start(self, rules: Rules) -> OpaEngine:
        opa = await self._find_opa(rules.engine)
        try:
            revision = await self._rulebooks.get(rules.revision)
        except (ValueError, StorageUnavailable) as error:
            raise EngineMissing(str(error)) from None
        if revision is None:
            raise EngineMissing("the revision is not here; export it, or name where it is with --revisions")
        # Whoever wrote the rules may not be trusted: built-ins that reach a network or a clock stay out here too.
        findings = await asyncio.to_thread(OpaCompiler(opa).compile_by_any_version, revision)
        if findings:
            raise EngineMissing(f"the revision does not pass the checks and is not run: {findings[0]}")
        try:
            engine = await OpaEngine.start(opa, revision, _SETTINGS)
        except (OpaStartFailed, RulebookRefused) as error:
            raise EngineMissing(f"the revision does not start: {error}") from None
        if engine.version != rules.engine:
            await engine.close()
            raise EngineMissing(f"{opa} calls itself {engine.version}, not {rules.engine}")
        return engine

    async def _find_opa(self, version: str) -> Path:
        if self._versions is None:
            self._versions = await asyncio.to_thread(_versions, self._opas)
        if version not in self._versions:
            found = " and ".join(self._versions) or "none"
            raise EngineMissing(
                f"needs {version}, and there is {found}; name that version's binary with --opa"
            )
        return self._versions[version]


def _versions(opas: Sequence[Path]) -> dict[str, Path]:
    """The binaries by what the ledger calls their version."""
    found: dict[str, Path] = {}
    for opa in opas:
        try:
            found.setdefault(f"opa {OpaCompiler(opa).version()}", opa)
        except OSError as error:
            raise EngineMissing(f"{opa}: cannot be started ({error.strerror}); correct --opa") from None
    return found
