"""The writer: one flight at a time, indexes given once, callers that wait, and an end when the ledger is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from broker.core.ledger import writer as module
from broker.core.ledger.leaf import open_entry, read_leaf
from broker.core.merkle.hashing import leaf_hash, root_of
from broker.errors import LedgerFenced, StorageUnavailable
from broker.model.ledger import LedgerEntry, Place, StoredEntry
from tests.fakes.ledger_log import MemoryLedgerLog, MemoryStore, OpenedWriter, open_writer


@pytest.fixture
def log() -> MemoryLedgerLog:
    return MemoryLedgerLog()


@pytest.fixture
async def writer(log: MemoryLedgerLog) -> AsyncIterator[OpenedWriter]:
    opened = await open_writer(log)
    yield opened
    await opened.close()


def entry(number: int, filler: str = "") -> LedgerEntry:
    return LedgerEntry("publish", 1_000 + number, {"call": {"number": number, "filler": filler}})


def begin(
    writer: OpenedWriter, *entries: LedgerEntry, patient: bool = False
) -> asyncio.Task[Sequence[Place]]:
    return asyncio.create_task(writer.append(entries, patient=patient))


async def turns(count: int = 10) -> None:
    """Let every task go as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def held(writer: OpenedWriter, log: MemoryLedgerLog) -> asyncio.Task[Sequence[Place]]:
    """One entry under way; it lands when `log.hold` is set."""
    log.hold = asyncio.Event()
    log.asked.clear()
    flying = begin(writer, entry(0))
    await log.asked.wait()
    return flying


def released(log: MemoryLedgerLog) -> None:
    assert log.hold is not None
    log.hold.set()


def numbers(log: MemoryLedgerLog) -> list[object]:
    """What the stored entries say, in order."""
    bodies = [open_entry(each)[1].body["call"] for each in log.store.entries()]
    return [body["number"] for body in bodies if isinstance(body, dict)]


async def test_what_arrives_while_a_flight_is_under_way_leaves_together_with_the_next(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    first = await held(writer, log)
    rest = [begin(writer, entry(2 * n + 1), entry(2 * n + 2)) for n in range(5)]
    await turns()
    assert log.flights == [1]
    released(log)
    places = [place for each in (first, *rest) for place in await each]
    assert log.flights == [1, 10]
    assert [place.index for place in places] == list(range(11))
    assert numbers(log) == list(range(11))
    hashes = [leaf_hash(stored.leaf) for stored in log.store.entries()]
    assert [place.leaf_hash for place in places] == hashes
    assert writer.tree.root() == root_of(hashes)


async def test_flights_are_bounded_by_entries_and_by_bytes(
    writer: OpenedWriter, log: MemoryLedgerLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLIGHT_ENTRIES", 4)
    first = await held(writer, log)
    small = [begin(writer, entry(n)) for n in range(6)]
    await turns()
    released(log)
    await asyncio.gather(first, *small)
    assert log.flights == [1, 4, 2]
    first = await held(writer, log)
    large = [begin(writer, entry(n, "x" * 600_000)) for n in range(5)]
    await turns()
    released(log)
    await asyncio.gather(first, *large)
    assert log.flights[3:] == [1, 2, 2, 1]


async def test_indexes_of_what_certainly_is_not_stored_are_given_again(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    await writer.append([entry(0)])
    log.faults = [StorageUnavailable("the disk is full", full=True)]
    outcomes = await asyncio.gather(
        writer.append([entry(1)]), writer.append([entry(2), entry(3)]), return_exceptions=True
    )
    refused = [each for each in outcomes if isinstance(each, StorageUnavailable)]
    assert refused
    assert all(each.full for each in refused)
    (place,) = await writer.append([entry(4)])
    assert place.index == 1
    assert [stored.index async for stored in writer.read()] == [0, 1]
    assert writer.tree.root() == root_of([leaf_hash(each.leaf) for each in log.store.entries()])


async def test_a_caller_that_waited_too_long_is_refused_and_its_entry_is_stored_once(
    log: MemoryLedgerLog,
) -> None:
    writer = await open_writer(log, append_timeout_s=0.05)
    impatient = await held(writer, log)
    patient = begin(writer, entry(1), patient=True)
    with pytest.raises(StorageUnavailable, match="not confirmed"):
        await impatient
    assert not patient.done()
    assert writer.size == 0
    released(log)
    assert [place.index for place in await patient] == [1]
    assert numbers(log) == [0, 1]
    await writer.close()


async def test_nothing_else_leaves_while_an_outcome_is_open(log: MemoryLedgerLog) -> None:
    writer = await open_writer(log, append_timeout_s=0.02)
    flying = await held(writer, log)
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await writer.append([entry(1)])
    assert log.flights == [1]
    assert log.store.entries() == []
    released(log)
    await asyncio.gather(flying, return_exceptions=True)
    await turns()
    assert numbers(log) == [0, 1, 1, 1]
    await writer.close()


async def test_a_caller_that_goes_away_is_accounted_for_all_the_same(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    flying = await held(writer, log)
    queued = begin(writer, entry(1))
    await turns()
    for task in (flying, queued):
        task.cancel()
    await asyncio.wait([flying, queued])
    released(log)
    assert [place.index for place in await writer.append([entry(2)])] == [2]
    assert numbers(log) == [0, 1, 2]


async def test_a_full_queue_lets_callers_wait_in_their_order(log: MemoryLedgerLog) -> None:
    writer = await open_writer(log, limit_bytes=2_000)
    first = await held(writer, log)
    callers = [begin(writer, entry(n, "x" * 900)) for n in range(1, 12)]
    await turns(50)
    assert writer.held_bytes < 4_000
    released(log)
    await first
    places = [place.index for each in callers for place in await each]
    assert places == list(range(1, 12))
    assert writer.held_bytes == 0
    assert numbers(log) == list(range(12))
    await writer.close()


async def test_a_full_queue_refuses_after_the_time_and_keeps_nothing_of_it(log: MemoryLedgerLog) -> None:
    writer = await open_writer(log, limit_bytes=100, append_timeout_s=0.02)
    flying = await held(writer, log)
    with pytest.raises(StorageUnavailable, match="takes no entries now"):
        await writer.append([entry(1)], patient=True)
    released(log)
    await asyncio.gather(flying, return_exceptions=True)
    assert [place.index for place in await writer.append([entry(2)])] == [1]
    assert numbers(log) == [0, 2]
    await writer.close()


async def test_too_much_at_once_and_what_is_no_entry_are_refused_at_once(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    with pytest.raises(ValueError, match="bytes of ledger entries at once"):
        await writer.append([entry(0, "x" * 5_000_000), entry(1, "x" * 5_000_000)])
    with pytest.raises(ValueError, match="is a list"):
        await writer.append([LedgerEntry("publish", 0, {"records": 3})])
    assert log.flights == []
    assert list(await writer.append([])) == []


async def test_a_newer_writer_ends_this_one_for_every_caller() -> None:
    store = MemoryStore()
    log = MemoryLedgerLog(store)
    writer = await open_writer(log, limit_bytes=400)
    flying = await held(writer, log)
    queued = begin(writer, entry(1))
    waiting = [begin(writer, entry(n)) for n in (2, 3)]
    await turns()
    newer = await open_writer(MemoryLedgerLog(store))
    released(log)
    for each in (flying, queued, *waiting):
        with pytest.raises(LedgerFenced):
            await each
    assert writer.fenced.done()
    with pytest.raises(LedgerFenced, match="newer instance"):
        await writer.append([entry(4)])
    assert log.flights == [1]
    (place,) = await newer.append([entry(5)])
    assert (place.index, place.epoch) == (0, 2)
    assert [stored async for stored in newer.read()] == [StoredEntry(0, entry(5))]
    await writer.close()
    await newer.close()


async def test_an_outcome_that_nobody_foresaw_ends_the_writer(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    """Whether the entries are stored is then unknown, and their indexes could be given twice."""
    log.faults = [RuntimeError("a payload could stand here")]
    with pytest.raises(LedgerFenced) as refused:
        await writer.append([entry(0)])
    assert "payload" not in str(refused.value)
    assert writer.fenced.done()


async def test_closing_waits_for_what_flies_and_refuses_the_rest(log: MemoryLedgerLog) -> None:
    writer = await open_writer(log)
    flying = await held(writer, log)
    closing = asyncio.create_task(writer.close())
    await turns()
    with pytest.raises(StorageUnavailable, match="closed"):
        await writer.append([entry(1)])
    released(log)
    assert [place.index for place in await flying] == [0]
    await closing
    await writer.close()


async def test_closing_does_not_wait_for_ever(log: MemoryLedgerLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSE_TIMEOUT_S", 0.01)
    writer = await open_writer(log)
    flying = await held(writer, log)
    queued = begin(writer, entry(1), patient=True)
    await turns()
    await writer.close()
    for each in (flying, queued):
        with pytest.raises(StorageUnavailable, match="closed"):
            await each


async def test_equal_entries_have_different_leaves(writer: OpenedWriter, log: MemoryLedgerLog) -> None:
    await writer.append([entry(0), entry(0)])
    one, other = (read_leaf(each.leaf) for each in log.store.entries())
    assert one.parts["shown"] != other.parts["shown"]


async def test_growth_is_told_once_it_is_durable(writer: OpenedWriter, log: MemoryLedgerLog) -> None:
    told: list[bytes] = []
    writer.grown = told.extend
    flying = await held(writer, log)
    assert told == []
    released(log)
    await flying
    await writer.append([entry(1), entry(2)])
    assert told == [leaf_hash(each.leaf) for each in log.store.entries()]


async def test_an_instance_that_is_cut_off_writes_nothing_until_it_is_heard_again(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    alive = False
    writer.may_release = lambda: alive
    for patient in (False, True):
        with pytest.raises(StorageUnavailable, match="cut off"):
            await begin(writer, entry(0), patient=patient)
    assert log.flights == [] and writer.held_bytes == 0
    alive = True
    (place,) = await begin(writer, entry(1))
    assert place.index == 0


async def test_a_writer_that_was_told_to_stop_refuses_all_that_waits(
    writer: OpenedWriter, log: MemoryLedgerLog
) -> None:
    flying = await held(writer, log)
    waiting = begin(writer, entry(1))
    await turns()
    writer.stop(LedgerFenced("gone on without"))
    with pytest.raises(LedgerFenced, match="gone on without"):
        await waiting
    assert writer.fenced.done()
    with pytest.raises(LedgerFenced):
        await begin(writer, entry(2))
    released(log)
    assert [place.index for place in await flying] == [0]
