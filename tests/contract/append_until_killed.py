"""A child process that appends records and ledger entries until it is killed, and prints what was acknowledged.

Run as `python -m tests.contract.append_until_killed BACKEND ADDRESS SERIES`. Each line on standard output is `record N` or
`entry N`, written after the append of that number returned.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator

from broker.model.ledger import LedgerEntry
from broker.ports.ledger import Ledger
from broker.ports.record_log import RecordLog
from tests.contract.backend import backend_module
from tests.contract.samples import START_MS, appended, record, topic

_WRITERS = 8
_BATCH = 5


def _acknowledge(line: str) -> None:
    """One unbuffered line; a line of this length is written to a pipe whole or not at all (POSIX PIPE_BUF)."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def _append_records(log: RecordLog, series: str, numbers: Iterator[int]) -> None:
    while True:
        batch = [next(numbers) for _ in range(_BATCH)]
        appended(await log.append("crash-reports", [record(n, of=series) for n in batch]))
        for number in batch:
            _acknowledge(f"record {number}")


async def _append_entries(ledger: Ledger, series: str, numbers: Iterator[int]) -> None:
    while True:
        number = next(numbers)
        await ledger.append([LedgerEntry("publish", START_MS, {"series": series, "number": number})])
        _acknowledge(f"entry {number}")


async def main(name: str, address: str, series: str) -> None:
    """Append with several writers at once, for ever."""
    backend = await backend_module(name).connect(address)
    log, ledger = await backend.open_record_log(), await backend.open_ledger()
    await log.open_topic(topic())
    records, entries = itertools.count(), itertools.count()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_WRITERS):
            tasks.create_task(_append_records(log, series, records))
            tasks.create_task(_append_entries(ledger, series, entries))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
