"""The ledger over every backend's log: places, order, durability, and what a start refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from broker.core.ledger.leaf import encode
from broker.core.ledger.writer import LedgerWriter
from broker.core.merkle.hashing import root_of
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, LedgerEntry, ReadPoint, StoredCheckpoint, StoredEntry
from broker.ports.ledger import Ledger
from tests.contract.backend import Backend
from tests.contract.samples import START_MS
from tests.fakes.ledger_log import checkpoint_of, rebuilt_of


@pytest.fixture
async def ledger(backend: Backend) -> AsyncIterator[LedgerWriter]:
    opened = await backend.open_ledger()
    yield opened
    await opened.close()


def entry(number: int, writer: str = "w") -> LedgerEntry:
    return LedgerEntry("publish", START_MS + number, {"call": {"writer": writer, "number": number}})


async def read(ledger: Ledger, from_index: int = 0) -> list[StoredEntry]:
    return [stored async for stored in ledger.read(from_index)]


async def indexes(ledger: Ledger, *entries: LedgerEntry) -> list[int]:
    return [place.index for place in await ledger.append(entries)]


async def test_indexes_count_from_zero_and_places_name_the_leaf(ledger: LedgerWriter) -> None:
    places = [*await ledger.append([entry(0), entry(1)]), *await ledger.append([entry(2)])]
    assert [place.index for place in places] == [0, 1, 2]
    assert {(place.instance, place.epoch) for place in places} == {("broker", 1)}
    assert ledger.tree.root() == root_of([place.leaf_hash for place in places])
    assert await read(ledger) == [StoredEntry(n, entry(n)) for n in range(3)]


async def test_every_json_value_comes_back(ledger: LedgerWriter) -> None:
    rich = LedgerEntry(
        "delivery",
        START_MS,
        {
            "z": [1, -2, 0.5, True, False, None, "ü\n\x00"],
            "a": {"nested": {"list": [[], {}]}},
            "largest": 2**53 - 1,
            "long": "x" * 100_000,
            "receivers": [],
            "records": [{"id": "1"}, "2"],
        },
        {"handed_out": b"r" * 32},
    )
    await ledger.append([rich])
    assert await read(ledger) == [StoredEntry(0, rich)]


async def test_read_from_an_index(ledger: LedgerWriter) -> None:
    await ledger.append([entry(n) for n in range(10)])
    assert [stored.index for stored in await read(ledger, 7)] == [7, 8, 9]
    assert await read(ledger, 10) == []
    assert await read(ledger, 99) == []


async def test_an_empty_ledger_reads_empty_and_appending_nothing_is_nothing(ledger: LedgerWriter) -> None:
    assert list(await ledger.append([])) == []
    assert await read(ledger) == []


async def test_concurrent_writers_keep_their_order_and_their_batches_whole(ledger: LedgerWriter) -> None:
    async def write(writer: str) -> list[int]:
        batches = [[entry(3 * b + n, writer) for n in range(3)] for b in range(5)]
        return [index for batch in batches for index in await indexes(ledger, *batch)]

    found = await asyncio.gather(*(write(f"w{n}") for n in range(20)))
    assert sorted(index for own in found for index in own) == list(range(300))
    stored = {s.index: s.entry for s in await read(ledger)}
    for writer, own in enumerate(found):
        assert own == sorted(own)
        assert [stored[index] for index in own] == [entry(n, f"w{writer}") for n in range(15)]
        assert all(own[n + 1] == own[n] + 1 and own[n + 2] == own[n] + 2 for n in range(0, 15, 3))


async def test_a_batch_with_an_entry_that_is_not_json_is_refused_whole(ledger: LedgerWriter) -> None:
    bad = LedgerEntry("publish", START_MS, {"value": object()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="canonical"):
        await ledger.append([entry(0), bad, entry(1)])
    assert await indexes(ledger, entry(2)) == [0]
    assert await read(ledger) == [StoredEntry(0, entry(2))]


async def test_entries_and_the_tree_survive_reopening(backend: Backend) -> None:
    ledger = await backend.open_ledger()
    places = list(await ledger.append([entry(n) for n in range(5)]))
    await ledger.close()
    await ledger.close()
    ledger = await backend.open_ledger()
    assert [stored.entry for stored in await read(ledger)] == [entry(n) for n in range(5)]
    (last,) = await ledger.append([entry(5)])
    assert last.index == 5
    assert last.epoch > places[-1].epoch
    assert ledger.tree.root() == root_of([place.leaf_hash for place in (*places, last)])
    await ledger.close()


def drop(entries: list[EncodedEntry]) -> None:
    del entries[2]


def repeat(entries: list[EncodedEntry]) -> None:
    entries.insert(3, entries[2])


def swap(entries: list[EncodedEntry]) -> None:
    entries[2], entries[3] = entries[3], entries[2]


def truncate(entries: list[EncodedEntry]) -> None:
    del entries[4:]


def forget_the_first(entries: list[EncodedEntry]) -> None:
    del entries[0]


def forget_all(entries: list[EncodedEntry]) -> None:
    entries.clear()


def change_openings(entries: list[EncodedEntry]) -> None:
    changed = entries[2].openings.replace(b'"number":2', b'"number":9')
    assert changed != entries[2].openings
    entries[2] = replace(entries[2], openings=changed)


def replace_whole(entries: list[EncodedEntry]) -> None:
    """Consistent in itself: only the tree tells."""
    entries[2] = encode(entry(9), "broker", 1, 2, b"s" * 32)


def of_another_instance(entries: list[EncodedEntry]) -> None:
    entries[2] = encode(entry(2), "other", 1, 2, b"s" * 32)


def of_a_later_epoch(entries: list[EncodedEntry]) -> None:
    entries[2] = encode(entry(2), "broker", 7, 2, b"s" * 32)


def garbage(entries: list[EncodedEntry]) -> None:
    entries[2] = EncodedEntry(b"\xff{}", b"")


TAMPERINGS: list[tuple[Callable[[list[EncodedEntry]], None], str]] = [
    (drop, "entry 2: entry 3 stands in its place"),
    (repeat, "entry 3: entry 2 stands in its place"),
    (swap, "entry 2: entry 3 stands in its place"),
    (truncate, "entry 4: it is missing, and a checkpoint covers 6 entries"),
    (forget_the_first, "entry 0: the ledger begins with entry 1, and no retention is configured"),
    (forget_all, "entry 0: it is missing, and a checkpoint covers 3 entries"),
    (change_openings, "entry 2: what is stored as 'shown' is not what the leaf commits to"),
    (replace_whole, "entry 2: the tree up to it is not that of the checkpoint of size 3"),
    (of_another_instance, "entry 2: it is of the instance other"),
    (garbage, "entry 2: the leaf is not readable"),
]


@pytest.mark.parametrize(("tamper", "place"), TAMPERINGS, ids=[t.__name__ for t, _ in TAMPERINGS])
async def test_a_ledger_that_was_changed_is_refused_with_the_place(
    backend: Backend, tamper: Callable[[list[EncodedEntry]], None], place: str
) -> None:
    await _write_six_with_checkpoints(backend)
    await backend.rewrite_ledger("broker", tamper)
    with pytest.raises(LedgerRefused) as refused:
        await _rebuild(backend)
    (finding,) = refused.value.findings
    assert finding.startswith(f"instance broker, {place}")
    assert "restore" in finding
    assert "\n" not in finding


async def test_entries_of_another_epoch_void_or_contradict_what_follows(backend: Backend) -> None:
    """On Kafka an entry of a later epoch ends the older one, so that what follows is missing."""
    await _write_six_with_checkpoints(backend)
    await backend.rewrite_ledger("broker", of_a_later_epoch)
    with pytest.raises(LedgerRefused, match=r"instance broker, entry (2|3): "):
        await _rebuild(backend)


async def test_a_ledger_that_was_copied_as_it_is_is_accepted(backend: Backend) -> None:
    root = await _write_six_with_checkpoints(backend)
    await backend.rewrite_ledger("broker", lambda _: None)
    assert await _rebuild(backend) == root


async def test_a_checkpoint_of_another_tree_is_refused(backend: Backend) -> None:
    await _write_six_with_checkpoints(backend)
    (log,) = await backend.open_ledger_logs("broker")
    pages = [page async for page in log.read("broker", ReadPoint())]
    entries = [each for page in pages for each in page.entries]
    await log.claim()
    await log.put_checkpoint(checkpoint_of([entries[1], entries[0]]))
    await log.close()
    with pytest.raises(
        LedgerRefused, match="entry 1: the tree up to it is not that of the checkpoint of size 2"
    ):
        await _rebuild(backend)


async def test_a_checkpoint_that_nobody_signed_is_refused(backend: Backend) -> None:
    await _write_six_with_checkpoints(backend)
    (log,) = await backend.open_ledger_logs("broker")
    await log.claim()
    await log.put_checkpoint(StoredCheckpoint(b"a note\n", ()))
    await log.close()
    with pytest.raises(LedgerRefused, match="instance broker, stored checkpoint 2: "):
        await _rebuild(backend)


async def _write_six_with_checkpoints(backend: Backend) -> bytes:
    """Six entries of one writer, with checkpoints at 3 and 6; the root."""
    (log,) = await backend.open_ledger_logs("broker")
    epoch = await log.claim()
    entries = [encode(entry(n), "broker", epoch, n, bytes([n]) * 32) for n in range(6)]
    await log.append(entries)
    await log.put_checkpoint(checkpoint_of(entries[:3]))
    await log.put_checkpoint(checkpoint_of(entries))
    await log.close()
    return await _rebuild(backend)


async def _rebuild(backend: Backend) -> bytes:
    """As a start does; the root."""
    reader = await backend.open_ledger_reader()
    try:
        return (await rebuilt_of(reader)).tree.root()
    finally:
        await reader.close()
