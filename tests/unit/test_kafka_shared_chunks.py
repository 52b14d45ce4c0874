"""Old records are read once for all who ask for the same positions, within a bound."""

from __future__ import annotations

import asyncio

import pytest

from broker.adapters.kafka.shared_chunks import SharedChunks
from broker.model.record import Chunk, StoredRecord


class Log:
    """Answers reads and counts them. hold: they wait until it is set."""

    def __init__(self) -> None:
        self.reads = 0
        self.asked = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.broken = False

    async def load(self) -> Chunk:
        self.reads += 1
        self.asked.set()
        await self.hold.wait()
        if self.broken:
            raise ConnectionError
        return Chunk((StoredRecord(0, 0, 0, b"x" * 1_000),), (1,))


async def test_those_who_ask_at_once_and_later_share_one_read() -> None:
    log, shared = Log(), SharedChunks()
    log.hold.clear()
    asking = [asyncio.create_task(shared.read((0,), log.load)) for _ in range(10)]
    await log.asked.wait()
    asking[0].cancel()
    log.hold.set()
    chunks = await asyncio.gather(*asking[1:])
    assert {chunk.next_positions for chunk in [*chunks, await shared.read((0,), log.load)]} == {(1,)}
    assert log.reads == 1


async def test_a_failure_is_told_and_not_kept() -> None:
    log, shared = Log(), SharedChunks()
    log.broken = True
    with pytest.raises(ConnectionError):
        await shared.read((0,), log.load)
    log.broken = False
    assert (await shared.read((0,), log.load)).next_positions == (1,)


async def test_the_oldest_make_room() -> None:
    log, shared = Log(), SharedChunks(limit_bytes=2_500)
    for position in (1, 2, 1, 3):
        await shared.read((position,), log.load)
    assert log.reads == 3
    await shared.read((1,), log.load)
    assert log.reads == 3
    await shared.read((2,), log.load)
    assert log.reads == 4
    shared.clear()
    await shared.read((2,), log.load)
    assert log.reads == 5
