"""The embedded backend at its operator's limit and on a disk that runs full: nothing lost, nothing half written."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.core.ledger.writer import LedgerWriter
from broker.core.merkle.hashing import leaf_hash, root_of
from broker.errors import StorageUnavailable
from broker.model.ledger import LedgerEntry, ReadPoint, StoredCheckpoint
from broker.model.record import NewRecord
from tests.contract.samples import START_MS, appended, read_all, record, topic
from tests.fakes.ledger_log import open_writer

NAME = "crash-reports"


def _batch(number: int) -> list[NewRecord]:
    return [record(n, body=b"%d" % n + b"x" * 4_000) for n in range(10 * number, 10 * number + 10)]


async def _append_until_full(log: SqliteRecordLog, first: int = 0) -> int:
    """Append batches of ten until one is refused for want of space; the number of the refused one."""
    for number in range(first, first + 10_000):
        before = await log.end_positions(NAME)
        try:
            appended(await log.append(NAME, _batch(number)))
        except StorageUnavailable as error:
            assert error.full
            assert "no space left" in str(error)
            assert await log.end_positions(NAME) == before
            return number
    raise AssertionError("the store never ran full")


async def _check_exactly(log: SqliteRecordLog, batches: int) -> None:
    """The log holds all records of so many batches, each once, and nothing of the refused one."""
    bodies = [stored.body for stored in await read_all(log, NAME)]
    assert sorted(bodies) == sorted(r.body for number in range(batches) for r in _batch(number))


class TestFull:
    async def test_the_operators_limit_refuses_and_a_higher_one_goes_on(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path, max_bytes=1_000_000)
        await log.open_topic(topic())
        refused = await _append_until_full(log)
        assert refused > 10
        await _check_exactly(log, refused)
        await log.close()
        assert (tmp_path / "records.db").stat().st_size <= 1_000_000
        log = await SqliteRecordLog.open(tmp_path, max_bytes=2_000_000)
        await log.open_topic(topic())
        appended(await log.append(NAME, _batch(refused)))
        await _check_exactly(log, refused + 1)
        await log.close()

    async def test_retention_makes_room_without_a_restart(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path, max_bytes=1_000_000)
        await log.open_topic(topic(retention_s=1))
        refused = await _append_until_full(log)
        assert await log.enforce_retention(START_MS + 100_000) == 10 * refused
        again = await _append_until_full(log, first=refused)
        assert again >= refused + refused // 2
        assert len(await read_all(log, NAME)) == 10 * (again - refused)
        await log.close()

    async def test_the_ledger_refuses_all_or_nothing(self, tmp_path: Path) -> None:
        ledger = await open_writer(await SqliteLedgerLog.open(tmp_path, "broker", max_bytes=200_000))
        entries = [LedgerEntry("publish", START_MS, {"filler": "x" * 1_000}) for _ in range(7)]
        count = 0
        with pytest.raises(StorageUnavailable) as refused:
            while True:
                count += len(await ledger.append(entries))
        assert refused.value.full
        assert [stored.index async for stored in ledger.read()] == list(range(count))
        await ledger.close()
        # Nothing was given away: the indexes of what was refused are those of what comes next.
        ledger = await open_writer(await SqliteLedgerLog.open(tmp_path, "broker", max_bytes=400_000))
        places = await ledger.append(entries)
        assert [place.index for place in places] == list(range(count, count + 7))
        await ledger.close()

    async def test_others_in_the_group_of_a_refused_call_lose_nothing(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path, max_bytes=1_000_000)
        await log.open_topic(topic())
        huge = log.append(NAME, [record(0, body=b"x" * 2_000_000, of="huge")])
        calls = [log.append(NAME, [record(n)]) for n in range(20)]
        refused, *results = await asyncio.gather(huge, *calls, return_exceptions=True)
        assert isinstance(refused, StorageUnavailable)
        assert refused.full
        stored = {found.body for found in await read_all(log, NAME)}
        acknowledged = {
            b"r/%d" % n for n, result in enumerate(results) if not isinstance(result, BaseException)
        }
        assert stored == acknowledged
        again = await asyncio.gather(*(log.append(NAME, [record(n)]) for n in range(20)))
        assert len([place for result in again for place in appended(result)]) == 20
        assert len(await read_all(log, NAME)) == 20
        await log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(mount)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small file system cannot be mounted here: there is no mount command")
    if made.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def _fill(path: Path) -> None:
    """Write to a new file until the disk is full to the last byte."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4_096))


class TestFullDisk:
    async def test_a_full_disk_refuses_and_free_space_goes_on_without_a_restart(
        self, small_disk: Path
    ) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(4 << 20))
        log = await SqliteRecordLog.open(small_disk / "data")
        await log.open_topic(topic())
        refused = await _append_until_full(log)
        assert refused > 10
        await _check_exactly(log, refused)
        ballast.unlink()
        again = await _append_until_full(log, first=refused)
        assert again > refused
        await _check_exactly(log, again)
        await log.close()

    async def test_reopening_on_a_full_disk_loses_nothing(self, small_disk: Path) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        log = await SqliteRecordLog.open(small_disk / "data")
        await log.open_topic(topic())
        refused = await _append_until_full(log)
        await log.close()
        _fill(small_disk / "rest")
        try:
            # Whether this needs space depends on what SQLite could not tidy up when it was closed; both must be right.
            log = await SqliteRecordLog.open(small_disk / "data")
        except StorageUnavailable as error:
            assert error.full
            ballast.unlink()
            log = await SqliteRecordLog.open(small_disk / "data")
        await _check_exactly(log, refused)
        await log.close()

    async def test_the_ledger_on_a_full_disk_refuses_and_goes_on_with_the_next_index(
        self, small_disk: Path
    ) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(4 << 20))
        ledger = await open_writer(await SqliteLedgerLog.open(small_disk / "data"))
        entry = LedgerEntry("publish", START_MS, {"filler": "x" * 30_000})
        count = await self._append_until_full(ledger, entry)
        # Checkpoints fail by themselves; what is there stays readable, and is still a whole tree.
        with pytest.raises(StorageUnavailable):
            while True:
                await ledger.log.put_checkpoint(StoredCheckpoint(bytes(30_000), ()))
        assert [stored.index async for stored in ledger.read()] == list(range(count))
        ballast.unlink()
        again = await self._append_until_full(ledger, entry)
        assert again > 10
        assert [stored.index async for stored in ledger.read()] == list(range(count + again))
        root = ledger.tree.root()
        await ledger.close()
        reader = await SqliteLedgerReader.open(small_disk / "data" / "ledger.db")
        entries = [each async for page in reader.read("broker", ReadPoint()) for each in page.entries]
        assert root_of([leaf_hash(each.leaf) for each in entries]) == root

    async def _append_until_full(self, ledger: LedgerWriter, entry: LedgerEntry) -> int:
        for count in range(10_000):
            before = ledger.size
            try:
                await ledger.append([entry])
            except StorageUnavailable as error:
                assert error.full
                assert ledger.size == before
                return count
        raise AssertionError("the ledger never ran full")

    async def test_a_directory_on_a_full_disk_cannot_be_opened(self, small_disk: Path) -> None:
        _fill(small_disk / "ballast")
        with pytest.raises(StorageUnavailable) as refused:
            await SqliteRecordLog.open(small_disk / "data")
        assert refused.value.full
