"""Reads what a simulation is made from, a part at a time and beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from broker.core.simulate.stored import Stored, StoredReader
from broker.core.simulate.traffic import Traffic, TrafficReader
from broker.model.audit import Progress, ProgressCallback
from broker.model.ledger import ReadPoint
from broker.ports.ledger_log import LedgerReader
from broker.ports.stored_records import StoredRecords


async def recorded_traffic(
    ledger: LedgerReader, reader: TrafficReader, progress: ProgressCallback | None = None
) -> Traffic:
    """What all instances have recorded. Raises StorageUnavailable."""
    done = 0
    for instance in await ledger.instances():
        async for part in ledger.read(instance, ReadPoint()):
            await asyncio.to_thread(reader.add, part.entries)
            done += len(part.entries)
            if progress is not None:
                progress(Progress("reading the ledger", done))
    return reader.traffic()


async def stored_kinds(
    records: StoredRecords,
    topics: Collection[str],
    reader: StoredReader,
    progress: ProgressCallback | None = None,
) -> Stored:
    """What is stored on these topics. Raises StorageUnavailable."""
    done = 0
    for topic in sorted(topics):
        async for part in records.read(topic):
            await asyncio.to_thread(reader.add, topic, part)
            done += len(part)
            if progress is not None:
                progress(Progress("reading records", done))
    return reader.stored
