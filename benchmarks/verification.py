"""Verifies an export once, in a process that holds nothing else, and prints what that took; `benchmarks.audit` runs it.

Run: `python -m benchmarks.verification EXPORT NOTES WORKERS yes|no`. NOTES: a directory of witnessed checkpoints. The last
one says whether the SQLite file is compared too. The export's own keys are trusted, which nobody else should do.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from broker.adapters.export.reader import ExportReader
from broker.adapters.export.tables import SqliteTables
from broker.core.audit.trust import Trust
from broker.core.audit.verify import Level, verify


async def measure(
    directory: Path, notes: tuple[bytes, ...], *, workers: int, with_tables: bool
) -> dict[str, float]:
    """Entries, seconds, and processor seconds of this process and of all; the ledger must turn out to be sound."""
    reader = await ExportReader.open(directory)
    trust = Trust(tuple(await reader.keys()), notes)
    tables = SqliteTables(reader.tables_path) if with_tables else None
    began, used = time.perf_counter(), _processor_s()
    found = await verify(reader, trust, tables=tables, workers=workers)
    passed, after = time.perf_counter() - began, _processor_s()
    assert found.level is Level.VERIFIED and not found.findings, found.findings[:3]
    own, others = (b - a for a, b in zip(used, after, strict=True))
    return {"entries": found.entries, "seconds": passed, "own_s": own, "processor_s": own + others}


def _processor_s() -> tuple[float, float]:
    """What this process has used, and those that it has waited for, in seconds."""
    own, others = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime


def main() -> None:
    """Print a JSON object."""
    directory, notes, workers, tables = sys.argv[1:]
    contents = tuple(path.read_bytes() for path in sorted(Path(notes).iterdir()))
    found = measure(Path(directory), contents, workers=int(workers), with_tables=tables == "yes")
    print(json.dumps(asyncio.run(found)))


if __name__ == "__main__":
    main()
