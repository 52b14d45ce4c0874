"""The contract of the ledger's log and of its readers, which every backend keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.core.ledger.leaf import encode
from broker.errors import LedgerFenced
from broker.model.ledger import EncodedEntry, LedgerEntry, ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerLog, LedgerReader
from tests.contract.backend import Backend
from tests.contract.samples import START_MS

SALT = b"s" * 32


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[LedgerLog]:
    (opened,) = await backend.open_ledger_logs("broker")
    yield opened
    await opened.close()


@pytest.fixture
async def pair(backend: Backend) -> AsyncIterator[tuple[LedgerLog, LedgerLog]]:
    """Two of one name."""
    older, newer = await backend.open_ledger_logs("broker", "broker")
    yield older, newer
    await older.close()
    await newer.close()


def stored(epoch: int, *numbers: int, instance: str = "broker", filler: str = "") -> list[EncodedEntry]:
    """Entries with these indexes, each a second younger than the one before."""
    return [
        encode(
            LedgerEntry("publish", START_MS + 1_000 * n, {"call": {"n": n, "filler": filler}}),
            instance,
            epoch,
            n,
            SALT,
        )
        for n in numbers
    ]


async def read(
    reader: LedgerReader, instance: str = "broker", point: ReadPoint | None = None
) -> list[EncodedEntry]:
    return [each async for page in reader.read(instance, point or ReadPoint()) for each in page.entries]


async def checkpoints(reader: LedgerReader, instance: str = "broker") -> list[StoredCheckpoint]:
    return [each async for each in reader.checkpoints(instance)]


async def test_entries_are_read_in_order_and_as_they_were_stored(log: LedgerLog) -> None:
    epoch = await log.claim()
    entries = stored(epoch, *range(5))
    await log.append(entries[:2])
    await log.append(entries[2:])
    assert await read(log) == entries
    assert list(await log.instances()) == ["broker"]


async def test_a_new_log_is_empty_and_has_its_name_once_it_is_claimed(log: LedgerLog) -> None:
    assert list(await log.instances()) == []
    assert await read(log) == []
    await log.claim()
    assert list(await log.instances()) == ["broker"]
    assert await read(log) == []
    assert await checkpoints(log) == []
    assert await read(log, "nobody") == []


async def test_nothing_is_appended_before_a_claim(log: LedgerLog) -> None:
    with pytest.raises(RuntimeError, match="claim"):
        await log.append(stored(1, 0))


async def test_reading_goes_on_from_the_point_where_it_ended(log: LedgerLog) -> None:
    epoch = await log.claim()
    entries = stored(epoch, *range(1_500))
    for begin in range(0, 1_500, 500):
        await log.append(entries[begin : begin + 500])
    pages = [page async for page in log.read("broker", ReadPoint())]
    assert [each for page in pages for each in page.entries] == entries
    assert len(pages) > 1
    assert max(len(page.entries) for page in pages) <= 1_000
    assert pages[-1].next.index == 1_500
    for number in (0, len(pages) // 2, len(pages) - 1):
        rest = [each for page in pages[number + 1 :] for each in page.entries]
        assert await read(log, point=pages[number].next) == rest
    await log.append(stored(epoch, 1_500))
    assert await read(log, point=pages[-1].next) == stored(epoch, 1_500)


async def test_a_read_ends_although_entries_are_added(log: LedgerLog) -> None:
    epoch = await log.claim()
    await log.append(stored(epoch, *range(5)))
    seen = 0
    async for page in log.read("broker", ReadPoint()):
        seen += len(page.entries)
        await log.append(stored(epoch, 5 + seen))
    assert seen == 5


async def test_large_entries_come_in_parts_of_bounded_size(log: LedgerLog) -> None:
    epoch = await log.claim()
    entries = [each for n in range(6) for each in stored(epoch, n, filler="x" * 3_000_000)]
    for entry in entries:
        await log.append([entry])
    pages = [page.entries async for page in log.read("broker", ReadPoint())]
    assert [each for page in pages for each in page] == entries
    assert max(sum(len(each.openings) for each in page) for page in pages) < 16_000_000


async def test_a_batch_with_what_is_no_entry_is_refused_whole(log: LedgerLog) -> None:
    epoch = await log.claim()
    good = stored(epoch, 0, 1)
    with pytest.raises(ValueError, match="heading"):
        await log.append([good[0], EncodedEntry(b"{}", b""), good[1]])
    await log.append(good)
    assert await read(log) == good


async def test_each_claim_has_a_larger_epoch(backend: Backend) -> None:
    epochs = []
    for index in range(3):
        (log,) = await backend.open_ledger_logs("broker")
        epochs.append(await log.claim())
        await log.append(stored(epochs[-1], index))
        await log.close()
    assert 0 < epochs[0] < epochs[1] < epochs[2]
    (log,) = await backend.open_ledger_logs("broker")
    assert await read(log) == [each for n, epoch in enumerate(epochs) for each in stored(epoch, n)]
    await log.close()


async def test_a_newer_claim_fences_the_older_writer(pair: tuple[LedgerLog, LedgerLog]) -> None:
    older, newer = pair
    first = await older.claim()
    await older.append(stored(first, 0))
    second = await newer.claim()
    with pytest.raises(LedgerFenced):
        await older.append(stored(first, 1))
    await newer.append(stored(second, 1, 2))
    assert await read(newer) == stored(first, 0) + stored(second, 1, 2)
    with pytest.raises(LedgerFenced):
        await older.append(stored(first, 1))
    await newer.append(stored(second, 3))
    assert await read(older) == stored(first, 0) + stored(second, 1, 2, 3)


async def test_an_append_that_a_claim_overtakes_is_either_confirmed_and_read_or_neither(
    pair: tuple[LedgerLog, LedgerLog],
) -> None:
    kept: list[EncodedEntry] = []
    writer, rival = pair
    epoch = await writer.claim()
    for index in range(0, 40, 2):
        flight = stored(epoch, len(kept), len(kept) + 1)
        appended, claimed = await asyncio.gather(writer.append(flight), rival.claim(), return_exceptions=True)
        assert isinstance(claimed, int), index
        if appended is None:
            kept += flight
        else:
            assert isinstance(appended, LedgerFenced)
        writer, rival, epoch = rival, writer, claimed
    await writer.append(stored(epoch, len(kept)))
    assert await read(writer) == kept + stored(epoch, len(kept))


async def test_instances_share_a_store_and_nothing_else(backend: Backend) -> None:
    one, other = await backend.open_ledger_logs("one", "other")
    epochs = await asyncio.gather(one.claim(), other.claim())
    await asyncio.gather(
        one.append(stored(epochs[0], 0, 1, instance="one")),
        other.append(stored(epochs[1], 0, instance="other")),
    )
    await one.append(stored(epochs[0], 2, instance="one"))
    await one.put_checkpoint(StoredCheckpoint(b"of one", ()))
    for reader in (one, other):
        assert list(await reader.instances()) == ["one", "other"]
        assert await read(reader, "one") == stored(epochs[0], 0, 1, 2, instance="one")
        assert await read(reader, "other") == stored(epochs[1], 0, instance="other")
        assert [each.note for each in await checkpoints(reader, "one")] == [b"of one"]
        assert await checkpoints(reader, "other") == []
    await one.close()
    await other.close()


async def test_checkpoints_come_back_in_order(backend: Backend) -> None:
    (log,) = await backend.open_ledger_logs("broker")
    await log.claim()
    made = [
        StoredCheckpoint(f"é {n}\n".encode(), tuple(bytes([k]) * 32 for k in range(n % 4)))
        for n in range(1_200)
    ]
    for begin in range(0, 1_200, 100):
        await asyncio.gather(*(log.put_checkpoint(each) for each in made[begin : begin + 100]))
    found = await checkpoints(log)
    assert found == made
    for number in (0, 998, 1_199):
        rest = [each async for each in log.checkpoints("broker", found[number].next_place)]
        assert rest == made[number + 1 :]
    await log.close()
    (log,) = await backend.open_ledger_logs("broker")
    assert await checkpoints(log) == made
    await log.close()


async def test_retention_takes_the_first_entries_and_never_the_newest(backend: Backend) -> None:
    (log,) = await backend.open_ledger_logs("broker")
    epoch = await log.claim()
    entries = stored(epoch, *range(10))
    await log.append(entries)
    await backend.expire_ledger(log, START_MS + 4_000)
    assert await read(log) == entries[4:]
    assert list(await log.instances()) == ["broker"]
    await backend.expire_ledger(log, START_MS + 3_000)
    assert await read(log) == entries[4:]
    await backend.expire_ledger(log, START_MS + 1_000_000)
    assert await read(log) == entries[9:]
    await log.append(stored(epoch, 10))
    await log.close()
    (log,) = await backend.open_ledger_logs("broker")
    again = await log.claim()
    assert again > epoch
    await log.append(stored(again, 11))
    assert await read(log) == entries[9:] + stored(epoch, 10) + stored(again, 11)
    await log.close()


async def test_entries_before_a_younger_one_stay_with_it_when_the_clock_was_set_back(
    backend: Backend,
) -> None:
    (log,) = await backend.open_ledger_logs("broker")
    epoch = await log.claim()
    times = (0, 50, 10, 60, 20)
    entries = [
        encode(LedgerEntry("publish", START_MS + 1_000 * t, {"call": t}), "broker", epoch, n, SALT)
        for n, t in enumerate(times)
    ]
    await log.append(entries)
    await backend.expire_ledger(log, START_MS + 30_000)
    assert await read(log) == entries[1:]
    await log.close()


async def test_a_reader_sees_what_is_written_while_it_reads(backend: Backend) -> None:
    (log,) = await backend.open_ledger_logs("broker")
    epoch = await log.claim()
    reader = await backend.open_ledger_reader()
    await log.append(stored(epoch, 0))
    assert await read(reader) == stored(epoch, 0)
    await log.append(stored(epoch, 1))
    await log.put_checkpoint(StoredCheckpoint(b"note", (b"h" * 32,)))
    assert await read(reader) == stored(epoch, 0, 1)
    assert await checkpoints(reader) == [StoredCheckpoint(b"note", (b"h" * 32,))]
    await log.close()
    assert await read(reader) == stored(epoch, 0, 1)
    assert list(await reader.instances()) == ["broker"]
    await reader.close()
    await reader.close()
