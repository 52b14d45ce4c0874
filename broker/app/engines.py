"""The engines of one instance: one for each revision that is in use or may soon be, started once and lent to regimes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.opa.child import OpaStartFailed
from broker.adapters.opa.engine import OpaEngine
from broker.app.rulebook import PreparedRulebook, RulebookDoor
from broker.errors import RulebookRefused, StorageUnavailable, fault_place

log = logging.getLogger(__name__)

START_FAULTS = (RulebookRefused, OpaStartFailed, StorageUnavailable, OSError)
"""What `lend` raises where a revision cannot be run here."""

_BYTES_PER_MB = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A revision that passed the checks, and an engine that answers for it."""

    rulebook: PreparedRulebook
    engine: OpaEngine


@dataclass(slots=True, eq=False)
class _Entry:
    """One revision's engine, or its start. users: regimes at work on it, and callers who wait for it."""

    start: asyncio.Task[Loaded]
    users: int = 0


class Engines:
    """Used from one event loop. An engine is stopped once nobody uses it and nobody wants it held ready.

    Two regimes of one revision may share an engine: it answers by its revision and by what it is asked alone.
    """

    def __init__(self, opa: Path, door: RulebookDoor, *, ready_mb: int) -> None:
        """ready_mb: the largest revision, by its files, that is held ready; 0: none is."""
        self._opa = opa
        self._door = door
        self._ready_bytes = ready_mb * _BYTES_PER_MB
        self._entries: dict[str, _Entry] = {}
        self._wanted: tuple[str, ...] = ()
        self._unfit: set[str] = set()
        self._holding: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False

    async def lend(self, revision_id: str, rulebook: PreparedRulebook | None = None) -> Loaded:
        """The revision and its engine, running: held ready, or started now. Give it back with `give_back`.

        rulebook: the revision, for whoever has it; else it is taken from the store and checked as at the door.
        Raises one of START_FAULTS.
        """
        if self._closed:
            raise OpaStartFailed("the engines of this instance were stopped; it ends")
        entry = self._entries.get(revision_id)
        if entry is None:
            starting = asyncio.get_running_loop().create_task(self._start(revision_id, rulebook))
            starting.add_done_callback(_retrieve)
            entry = self._entries[revision_id] = _Entry(starting)
        entry.users += 1
        try:
            return await asyncio.shield(entry.start)
        except BaseException:
            await self._used_no_more(revision_id, entry)
            raise

    async def give_back(self, loaded: Loaded) -> None:
        """Somebody who was lent it uses it no more."""
        revision_id = loaded.rulebook.revision.id
        await self._used_no_more(revision_id, self._entries[revision_id])

    def hold(self, wanted: Sequence[str]) -> None:
        """Have these revisions ready, the first one first, and let go of others that nobody uses; returns at once."""
        if not self._ready_bytes or self._closed or tuple(wanted) == self._wanted:
            return
        self._wanted = tuple(wanted)
        self._unfit &= set(wanted)
        if self._holding is None or self._holding.done():
            self._holding = asyncio.get_running_loop().create_task(self._hold())

    async def close(self) -> None:
        """Stop all; whoever still uses one is answered no more. Idempotent."""
        self._closed, self._wanted = True, ()
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.wait([self._holding])
        for revision_id, entry in list(self._entries.items()):
            self._stop(revision_id, entry)
        await asyncio.gather(*self._stopping, return_exceptions=True)

    async def _hold(self) -> None:
        """One after the other, until what is wanted is there."""
        try:
            while True:
                for revision_id, entry in list(self._entries.items()):
                    self._drop_idle(revision_id, entry)
                there = self._entries.keys() | self._unfit
                missing = next((each for each in self._wanted if each not in there), None)
                if missing is None:
                    return
                await self._make_ready(missing)
        except Exception as error:  # noqa: BLE001 - what is not held ready is made so when it is activated
            log.error("revisions could not be held ready: error=%s", fault_place(error))

    async def _make_ready(self, revision_id: str) -> None:
        """Whatever it meets, preparing meets it again and says so."""
        self._unfit.add(revision_id)
        with suppress(*START_FAULTS):
            rulebook = await self._door.stored(revision_id)
            if sum(map(len, rulebook.revision.files.values())) > self._ready_bytes:
                return
            await self.give_back(await self.lend(revision_id, rulebook))
            self._unfit.discard(revision_id)
            log.info("held ready: revision=%s", revision_id)

    async def _start(self, revision_id: str, rulebook: PreparedRulebook | None) -> Loaded:
        found = rulebook or await self._door.stored(revision_id)
        return Loaded(found, await OpaEngine.start(self._opa, found.revision))

    async def _used_no_more(self, revision_id: str, entry: _Entry) -> None:
        entry.users -= 1
        stopping = self._drop_idle(revision_id, entry)
        if stopping is not None:
            await asyncio.shield(stopping)

    def _drop_idle(self, revision_id: str, entry: _Entry) -> asyncio.Task[None] | None:
        """Stop an engine that nobody uses, unless it is to be held ready and runs."""
        is_held = revision_id in self._wanted and not _has_failed(entry.start)
        return None if entry.users or is_held else self._stop(revision_id, entry)

    def _stop(self, revision_id: str, entry: _Entry) -> asyncio.Task[None] | None:
        if self._entries.get(revision_id) is not entry:
            return None
        del self._entries[revision_id]
        stopping = asyncio.get_running_loop().create_task(_ended(entry.start))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        return stopping


async def _ended(start: asyncio.Task[Loaded]) -> None:
    if not start.done():
        start.cancel()
        await asyncio.wait([start])
    if not _has_failed(start):
        await start.result().engine.close()


def _has_failed(start: asyncio.Task[Loaded]) -> bool:
    return start.done() and (start.cancelled() or start.exception() is not None)


def _retrieve(start: asyncio.Task[Loaded]) -> None:
    """Whoever waited may have gone: a failure that nobody awaits is no programming error."""
    if not start.cancelled():
        start.exception()
