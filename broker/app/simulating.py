"""Simulates one proposal and prints messages: run by SimulatorProcess, in a process of its own.

Usage: python -m broker.app.simulating PARENT_PID DIRECTORY OPA; DIRECTORY holds what SimulatorProcess has laid out there.
Each message is a SimulateResponse after its length, 4 bytes, big-endian. A last one of length 0 says that it is whole.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path

import orjson
from pydantic import BaseModel

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.app.backends import open_ledger_reader
from broker.app.config import Backend
from broker.app.record_sources import open_records
from broker.app.set_apart import set_apart
from broker.app.simulation import PATIENCE
from broker.core.rulebook.archive import read_archive
from broker.core.simulate.gather import recorded_traffic, stored_kinds
from broker.core.simulate.model import Side, Simulation
from broker.core.simulate.run import Material, simulate
from broker.core.simulate.scope import scoped, with_examples_of
from broker.core.simulate.sides import on_trial
from broker.core.simulate.stored import Stored, StoredReader
from broker.core.simulate.traffic import Traffic, TrafficReader
from broker.model.audit import Progress, ProgressCallback
from broker.model.rulebook import Revision
from broker.rpc.simulation_messages import responses
from protos.entente.v1 import rulebook_pb2 as pb

PRESENT, PROPOSED, JOB = "present.tar.gz", "proposed.tar.gz", "job.json"
LENGTH_BYTES = 4
LEFT = 143
"""The exit status where nobody waits for the result any more, as a shell gives it for SIGTERM."""

_PAUSE_S = 0.25


class Job(BaseModel):
    """What SimulatorProcess hands over besides the two revisions; see SimulationJob."""

    backend: Backend
    owner: str | None
    agency: str
    since_ms: int | None
    last: int | None
    now_ms: int


def main(parent: int, directory: Path, opa: Path) -> None:
    """Print progress, the summary and rows."""
    set_apart(parent)
    present, proposed = read_archive(directory / PRESENT), read_archive(directory / PROPOSED)
    job = Job.model_validate(orjson.loads((directory / JOB).read_bytes()), context={"directory": directory})
    try:
        found = asyncio.run(_until_left(_simulate(job, opa, present, proposed, _Told(job.owner is None))))
    except asyncio.CancelledError:
        raise SystemExit(LEFT) from None
    for response in responses(with_examples_of(scoped(found, job.owner), job.agency)):
        _write(response.SerializeToString())
    _write(b"")


async def _until_left(work: Coroutine[object, object, Simulation]) -> Simulation:
    """The result, unless SIGTERM comes first: then it ends in order, so that engines end and their directories go."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _simulate(
    job: Job, opa: Path, present: Revision, proposed: Revision, progress: ProgressCallback
) -> Simulation:
    compiler, trials = OpaCompiler(opa), OpaTrials(opa, PATIENCE)
    async with (
        on_trial(compiler, trials, present, is_new=False) as before,
        on_trial(compiler, trials, proposed, is_new=True) as after,
    ):
        traffic = await _traffic(job, progress)
        stored = await _stored(job, (before, after), progress)
        unread = traffic.unread + stored.unplaced
        notes = (f"{unread} entries or records are erased or cannot be read, and do not count",)
        # How many of everybody's cannot be read is no single owner's business.
        material = Material(traffic, stored, job.owner, notes if unread and job.owner is None else ())
        now = datetime.fromtimestamp(job.now_ms / 1000, UTC)
        return await simulate(before, after, material, now, progress=progress)


async def _traffic(job: Job, progress: ProgressCallback) -> Traffic:
    ledger = await open_ledger_reader(job.backend)
    try:
        reader = TrafficReader(since_ms=job.since_ms, last=job.last, owner=job.owner)
        return await recorded_traffic(ledger, reader, progress)
    finally:
        await ledger.close()


async def _stored(job: Job, sides: tuple[Side, Side], progress: ProgressCallback) -> Stored:
    records = await open_records(
        kafka=job.backend.kafka if job.backend.kind == "kafka" else None, directory=job.backend.data_dir
    )
    try:
        topics = {name for side in sides for name in side.registry.topics}
        return await stored_kinds(records, topics, StoredReader(job.now_ms, job.owner), progress)
    finally:
        await records.close()


class _Told:
    """Tells progress now and then; numbers only to who sees all, since they count others' records too."""

    def __init__(self, numbers: bool) -> None:
        self._numbers = numbers
        self._stage = ""
        self._next_s = 0.0

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.stage == self._stage and (not self._numbers or now_s < self._next_s):
            return
        self._stage, self._next_s = progress.stage, now_s + _PAUSE_S
        told = pb.SimulationProgress(stage=progress.stage)
        if self._numbers:
            told.done, told.total = progress.done, progress.total or 0
        _write(pb.SimulateResponse(progress=told).SerializeToString())


def _write(message: bytes) -> None:
    sys.stdout.buffer.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
