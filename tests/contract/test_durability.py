"""What was acknowledged is there, once and in order, after kill -9 in the middle of appends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest

from tests.contract.backend import Backend
from tests.contract.samples import appended, read_all, record, topic

ROUNDS = 3
NAME = "crash-reports"


@contextmanager
def _child(backend_name: str, address: str, series: str) -> Iterator[Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.append_until_killed", backend_name, address, series]
    with Popen(command, stdout=PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def _acknowledged_before_kill(backend_name: str, address: str, series: str, lines: int) -> list[str]:
    """Run the child, kill it with SIGKILL after about `lines` acknowledgements, and return all that it gave."""
    with _child(backend_name, address, series) as child:
        assert child.stdout is not None
        seen = [line.strip() for _, line in zip(range(lines), child.stdout, strict=False)]
        os.kill(child.pid, signal.SIGKILL)
        seen.extend(line.strip() for line in child.stdout)
        assert child.wait() == -signal.SIGKILL, "the child ended before it was killed"
    return seen


async def test_acknowledged_records_and_entries_survive_kill_9(
    backend: Backend, request: pytest.FixtureRequest
) -> None:
    name = str(request.node.callspec.params["backend"])
    records, entries = set[tuple[str, int]](), set[tuple[str, int]]()
    for series in (f"round {n}" for n in range(ROUNDS)):
        lines = random.randint(1, 300)
        for line in await asyncio.to_thread(_acknowledged_before_kill, name, backend.address, series, lines):
            kind, number = line.split()
            (records if kind == "record" else entries).add((series, int(number)))
    assert records
    assert entries
    await _check_records(backend, records)
    await _check_entries(backend, entries)


async def _check_records(backend: Backend, acknowledged: set[tuple[str, int]]) -> None:
    log = await backend.open_record_log()
    await log.open_topic(topic())
    found = await read_all(log, NAME)
    bodies = Counter(stored.body for stored in found)
    assert set(bodies.values()) == {1}
    assert {f"{series}/{number}".encode() for series, number in acknowledged} <= set(bodies)
    for partition in range(3):
        offsets = [stored.offset for stored in found if stored.partition == partition]
        assert offsets == list(range(len(offsets)))
    sample = sorted(acknowledged)[:50]
    again = appended(await log.append(NAME, [record(number, of=series) for series, number in sample]))
    assert all(place.duplicate for place in again)
    await log.close()


async def _check_entries(backend: Backend, acknowledged: set[tuple[str, int]]) -> None:
    ledger = await backend.open_ledger()
    found = [stored async for stored in ledger.read()]
    assert [stored.index for stored in found] == list(range(len(found)))
    counted = Counter((str(s.entry.body["series"]), int(str(s.entry.body["number"]))) for s in found)
    assert set(counted.values()) == {1}
    assert acknowledged <= set(counted)
    await ledger.close()
