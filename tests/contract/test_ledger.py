"""The contract of the ledger, which every backend keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.model.ledger import LedgerEntry, StoredEntry
from broker.ports.ledger import Ledger
from tests.contract.backend import Backend
from tests.contract.samples import START_MS


@pytest.fixture
async def ledger(backend: Backend) -> AsyncIterator[Ledger]:
    opened = await backend.open_ledger()
    yield opened
    await opened.close()


def entry(number: int, writer: str = "w") -> LedgerEntry:
    return LedgerEntry("publish", START_MS + number, {"writer": writer, "number": number})


async def read(ledger: Ledger, from_position: int = 0) -> list[StoredEntry]:
    return [stored async for stored in ledger.read(from_position)]


async def test_positions_count_from_zero(ledger: Ledger) -> None:
    assert list(await ledger.append([entry(0), entry(1)])) == [0, 1]
    assert list(await ledger.append([entry(2)])) == [2]
    assert await read(ledger) == [StoredEntry(n, entry(n)) for n in range(3)]


async def test_every_json_value_comes_back(ledger: Ledger) -> None:
    rich = LedgerEntry(
        "delivery",
        START_MS,
        {
            "z": [1, -2, 0.5, True, False, None, "ü\n\x00"],
            "a": {"nested": {"list": [[], {}]}},
            "": 2**53,
            "long": "x" * 100_000,
        },
    )
    await ledger.append([rich])
    assert await read(ledger) == [StoredEntry(0, rich)]


async def test_read_from_a_position(ledger: Ledger) -> None:
    await ledger.append([entry(n) for n in range(10)])
    assert [stored.position for stored in await read(ledger, 7)] == [7, 8, 9]
    assert await read(ledger, 10) == []
    assert await read(ledger, 99) == []


async def test_an_empty_ledger_reads_empty_and_appending_nothing_is_nothing(ledger: Ledger) -> None:
    assert list(await ledger.append([])) == []
    assert await read(ledger) == []


async def test_a_read_ends_although_entries_are_added(ledger: Ledger) -> None:
    await ledger.append([entry(n) for n in range(5)])
    seen = []
    async for stored in ledger.read():
        seen.append(stored.position)
        await ledger.append([entry(100)])
    assert seen[:5] == [0, 1, 2, 3, 4]
    assert len(seen) < 50


async def test_a_long_ledger_is_read_whole_and_in_order(ledger: Ledger) -> None:
    for start in range(0, 3_000, 500):
        await ledger.append([entry(n) for n in range(start, start + 500)])
    assert [stored.entry for stored in await read(ledger)] == [entry(n) for n in range(3_000)]


async def test_concurrent_writers_keep_their_order_and_their_batches_whole(ledger: Ledger) -> None:
    async def write(writer: str) -> list[int]:
        return [
            p for b in range(5) for p in await ledger.append([entry(3 * b + n, writer) for n in range(3)])
        ]

    positions = await asyncio.gather(*(write(f"w{n}") for n in range(20)))
    assert sorted(p for own in positions for p in own) == list(range(300))
    stored = {s.position: s.entry for s in await read(ledger)}
    for writer, own in enumerate(positions):
        assert own == sorted(own)
        assert [stored[p] for p in own] == [entry(n, f"w{writer}") for n in range(15)]
        assert all(own[n + 1] == own[n] + 1 and own[n + 2] == own[n] + 2 for n in range(0, 15, 3))


async def test_a_batch_with_an_entry_that_is_not_json_is_refused_whole(ledger: Ledger) -> None:
    bad = LedgerEntry("publish", START_MS, {"value": object()})  # type: ignore[dict-item]
    with pytest.raises((TypeError, ValueError)):
        await ledger.append([entry(0), bad, entry(1)])
    assert list(await ledger.append([entry(2)])) == [0]
    assert await read(ledger) == [StoredEntry(0, entry(2))]


async def test_entries_survive_reopening(backend: Backend) -> None:
    ledger = await backend.open_ledger()
    await ledger.append([entry(n) for n in range(5)])
    await ledger.close()
    await ledger.close()
    ledger = await backend.open_ledger()
    assert [stored.entry for stored in await read(ledger)] == [entry(n) for n in range(5)]
    assert list(await ledger.append([entry(5)])) == [5]
    await ledger.close()
