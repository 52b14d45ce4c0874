"""Simulations by what the command line has at hand: rulebooks in directories or archives, stores, exports of ledgers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.adapters.opa.trial import TrialLimits
from broker.app.ledger_sources import LedgerSource, OpenedLedger, opened_source
from broker.app.record_sources import open_records
from broker.app.rulebook import find_opa
from broker.core.rulebook.archive import read_directory_or_archive
from broker.core.simulate.gather import recorded_traffic, stored_kinds
from broker.core.simulate.model import Side, Simulation, SimulationFailed
from broker.core.simulate.run import MOST_COMBINATIONS, Material, simulate
from broker.core.simulate.sides import on_trial
from broker.core.simulate.stored import Stored, StoredReader
from broker.core.simulate.traffic import Traffic, TrafficReader
from broker.errors import RulebookRefused, StorageUnavailable
from broker.model.audit import ProgressCallback
from broker.model.rulebook import Revision
from broker.ports.stored_records import StoredRecords

PATIENCE = TrialLimits(decision_s=30.0)
"""For a batch of combinations, which takes a second of a slow rulebook; whoever waits is nobody who receives records."""


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """What to simulate.

    rulebook: the changed one, a directory or an archive. against: the same of the other, or the id of a revision that the
    ledger's place holds. since_ms, last: which recorded decisions count, see TrafficReader. opa: the binary, if it is not
    the one beside this Python. limit: the most combinations.
    """

    rulebook: Path
    against: Path | str
    ledger: LedgerSource | None = None
    since_ms: int | None = None
    last: int | None = None
    opa: Path | None = None
    limit: int = MOST_COMBINATIONS


async def simulate_rulebook(
    request: SimulationRequest, now: datetime, progress: ProgressCallback | None = None
) -> Simulation:
    """What the change does.

    Raises RulebookRefused, SimulationFailed, StorageUnavailable, and what opening a ledger raises.
    """
    binary = find_opa(request.opa)
    compiler, trials = OpaCompiler(binary), OpaTrials(binary, PATIENCE)
    async with AsyncExitStack() as stack:
        ledger: OpenedLedger | None = None
        if request.ledger is not None:
            ledger = await stack.enter_async_context(opened_source(request.ledger))
        present = await _present(request.against, ledger)
        changed = await asyncio.to_thread(_read, request.rulebook)
        before = await stack.enter_async_context(on_trial(compiler, trials, present, is_new=False))
        after = await stack.enter_async_context(on_trial(compiler, trials, changed, is_new=True))
        material = await _material(request, ledger, (before, after), now, progress)
        return await simulate(before, after, material, now, limit=request.limit, progress=progress)


async def _present(against: Path | str, ledger: OpenedLedger | None) -> Revision:
    if isinstance(against, Path):
        return await asyncio.to_thread(_read, against)
    if ledger is None:
        raise SimulationFailed(f"{against}: name with --ledger what holds the revision")
    try:
        revision = await ledger.rulebooks.get(against)
    except ValueError as error:
        raise SimulationFailed(f"{against}: {error}") from None
    if revision is None:
        raise SimulationFailed(
            f"{against}: no such directory or archive, and no revision that is there; correct it, or name its"
            " place with --revisions"
        )
    return revision


def _read(path: Path) -> Revision:
    try:
        return read_directory_or_archive(path)
    except RulebookRefused as refused:
        raise RulebookRefused(tuple(f"{path}: {finding}" for finding in refused.findings)) from None


async def _material(
    request: SimulationRequest,
    ledger: OpenedLedger | None,
    sides: tuple[Side, Side],
    now: datetime,
    progress: ProgressCallback | None,
) -> Material:
    if ledger is None:
        return Material(Traffic(), None, notes=("no ledger was named, so nothing recorded or stored counts",))
    reader = TrafficReader(since_ms=request.since_ms, last=request.last)
    traffic = await recorded_traffic(ledger.reader, reader, progress)
    topics = {name for side in sides for name in side.registry.topics}
    notes = []
    if traffic.unread:
        notes.append(f"{traffic.unread} entries of the ledger are erased or cannot be read, and do not count")
    stored: Stored | None = None
    try:
        stored = await _stored(ledger, topics, now, progress)
    except StorageUnavailable as error:
        notes.append(f"stored records do not count: {error}")
    if stored is not None and stored.unplaced:
        notes.append(f"{stored.unplaced} stored records cannot be read, and do not count")
    return Material(traffic, stored, notes=tuple(notes))


async def _stored(
    ledger: OpenedLedger, topics: Collection[str], now: datetime, progress: ProgressCallback | None
) -> Stored:
    """Raises StorageUnavailable where no records are."""
    async with _records(ledger) as records:
        reader = StoredReader(int(now.timestamp() * 1000))
        return await stored_kinds(records, topics, reader, progress)


@asynccontextmanager
async def _records(ledger: OpenedLedger) -> AsyncIterator[StoredRecords]:
    source = ledger.source
    if ledger.export is not None:
        raise StorageUnavailable("an export holds none")
    records = await open_records(kafka=source.kafka, directory=source.directory)
    try:
        yield records
    finally:
        await records.close()
