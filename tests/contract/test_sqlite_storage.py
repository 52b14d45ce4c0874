"""What only the embedded backend has: files that one process owns, a limit of their size, disks that run full."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from broker.adapters.sqlite import files
from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.adapters.sqlite.ledger import SqliteLedger
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore
from broker.adapters.sqlite.writer import Writer
from broker.errors import StorageUnavailable
from broker.model.ledger import LedgerEntry
from broker.model.record import NewRecord
from tests.contract.samples import START_MS, appended, read_all, record, topic

NAME = "crash-reports"
ADAPTERS = {
    "records.db": SqliteRecordLog,
    "ledger.db": SqliteLedger,
    "subscriptions.db": SqliteSubscriptionStore,
    "rulebooks.db": SqliteRulebookStore,
}
Adapter = (
    type[SqliteRecordLog] | type[SqliteLedger] | type[SqliteSubscriptionStore] | type[SqliteRulebookStore]
)
each_adapter = pytest.mark.parametrize(("file", "adapter"), ADAPTERS.items())


def one_line(error: StorageUnavailable) -> str:
    text = str(error)
    assert "\n" not in text
    return text


class TestOwnership:
    @each_adapter
    async def test_a_second_opening_is_refused_until_the_first_is_closed(
        self, tmp_path: Path, file: str, adapter: Adapter
    ) -> None:
        first = await adapter.open(tmp_path)
        with pytest.raises(StorageUnavailable) as refused:
            await adapter.open(tmp_path)
        assert file in one_line(refused.value)
        assert "is in use by the process" in one_line(refused.value)
        assert not refused.value.full
        await first.close()
        await (await adapter.open(tmp_path)).close()

    async def test_another_process_is_refused_and_told_by_whom(self, tmp_path: Path) -> None:
        script = (
            "import asyncio, sys; from pathlib import Path\n"
            "from broker.adapters.sqlite.record_log import SqliteRecordLog\n"
            "from broker.errors import StorageUnavailable\n"
            "try: asyncio.run(SqliteRecordLog.open(Path(sys.argv[1])))\n"
            "except StorageUnavailable as error: print(error)\n"
        )
        log = await SqliteRecordLog.open(tmp_path)
        command = [sys.executable, "-c", script, str(tmp_path)]
        child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        own = (tmp_path / "records.lock").read_text().strip()
        assert child.stdout.splitlines() == [
            f"{tmp_path / 'records.db'} is in use by the process {own}; stop it, or choose another data directory"
        ]
        await log.close()

    async def test_files_and_directory_are_the_owners_alone(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path / "data")
        await log.open_topic(topic())
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
        assert {"records.db", "records.db-wal", "records.lock"} <= set(modes)
        assert set(modes.values()) == {0o600}
        await log.close()

    @each_adapter
    async def test_a_closed_store_says_so(self, tmp_path: Path, file: str, adapter: Adapter) -> None:
        store = await adapter.open(tmp_path)
        await store.close()
        with pytest.raises(StorageUnavailable, match="is closed"):
            if isinstance(store, SqliteRecordLog):
                await store.open_topic(topic())
            elif isinstance(store, SqliteLedger):
                await store.append([LedgerEntry("publish", START_MS, {})])
            elif isinstance(store, SqliteSubscriptionStore):
                await store.list("ems", "p-1")
            else:
                await store.list()


class TestForeignFiles:
    @each_adapter
    async def test_another_schema_is_refused(self, tmp_path: Path, file: str, adapter: Adapter) -> None:
        await (await adapter.open(tmp_path)).close()
        with closing(sqlite3.connect(tmp_path / file)) as connection:
            connection.execute("PRAGMA user_version = 99")
        with pytest.raises(StorageUnavailable, match="schema 99") as refused:
            await adapter.open(tmp_path)
        one_line(refused.value)

    @each_adapter
    async def test_another_programs_database_is_refused(
        self, tmp_path: Path, file: str, adapter: Adapter
    ) -> None:
        with closing(sqlite3.connect(tmp_path / file)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(StorageUnavailable, match="schema 0"):
            await adapter.open(tmp_path)

    @each_adapter
    async def test_what_is_no_database_is_refused_and_kept(
        self, tmp_path: Path, file: str, adapter: Adapter
    ) -> None:
        (tmp_path / file).write_bytes(b"not a database\n" * 100)
        with pytest.raises(StorageUnavailable, match="not an SQLite database"):
            await adapter.open(tmp_path)
        assert (tmp_path / file).read_bytes() == b"not a database\n" * 100

    async def test_a_data_directory_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("")
        with pytest.raises(StorageUnavailable, match=r"records\.db cannot be opened"):
            await SqliteRecordLog.open(tmp_path / "data")

    async def test_a_damaged_page_is_reported_and_not_returned(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic(partitions=1))
        await log.append(NAME, [record(n, body=b"x" * 1000) for n in range(500)])
        await log.close()
        with (tmp_path / "records.db").open("r+b") as file:
            file.seek(20 * 4096)
            file.write(b"\xff" * 40 * 4096)
        with pytest.raises(StorageUnavailable, match="damaged"):
            await _open_and_read(tmp_path)


async def _open_and_read(directory: Path) -> None:
    log = await SqliteRecordLog.open(directory)
    try:
        await log.open_topic(topic(partitions=1))
        await read_all(log, NAME)
    finally:
        await log.close()


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
            assert "no space left" in one_line(error)
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
        ledger = await SqliteLedger.open(tmp_path, max_bytes=200_000)
        entries = [LedgerEntry("publish", START_MS, {"filler": "x" * 1_000}) for _ in range(7)]
        count = 0
        with pytest.raises(StorageUnavailable) as refused:
            while True:
                count += len(await ledger.append(entries))
        assert refused.value.full
        assert [stored.position async for stored in ledger.read()] == list(range(count))
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

    async def test_a_directory_on_a_full_disk_cannot_be_opened(self, small_disk: Path) -> None:
        _fill(small_disk / "ballast")
        with pytest.raises(StorageUnavailable) as refused:
            await SqliteRecordLog.open(small_disk / "data")
        assert refused.value.full


class TestLocked:
    async def test_a_lock_of_another_program_is_reported_and_passes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "_BUSY_TIMEOUT_S", 0.05)
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic())
        with closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="locked by another program") as refused:
                await log.append(NAME, [record(1)])
            assert not refused.value.full
            other.execute("ROLLBACK")
        assert not appended(await log.append(NAME, [record(1)]))[0].duplicate
        await log.close()


_NUMBERS = Schema(1, "CREATE TABLE numbers (n INTEGER NOT NULL UNIQUE) STRICT")


def _insert(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        if number < 0:
            raise ValueError("negative")
        return number

    return work


def _numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n").fetchall()]


class TestGroupCommit:
    async def test_what_arrives_during_a_commit_goes_into_one_transaction(self, tmp_path: Path) -> None:
        connection = files.connect_writer(tmp_path / "numbers.db", _NUMBERS, None)
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        writer, gate = Writer(connection, tmp_path / "numbers.db"), Event()
        first = asyncio.ensure_future(writer.write(lambda _: gate.wait()))
        rest = [asyncio.ensure_future(writer.write(_insert(n))) for n in range(50)]
        await asyncio.sleep(0)
        gate.set()
        assert await first is True
        assert await asyncio.gather(*rest) == list(range(50))
        assert statements.count("COMMIT") <= 2
        await writer.close()

    async def test_a_callers_error_undoes_its_own_changes_only(self, tmp_path: Path) -> None:
        database = await Database.open(tmp_path / "numbers.db", _NUMBERS)
        calls = [database.write(_insert(n)) for n in (1, -1, 2, 2, 3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [int, ValueError, int, StorageUnavailable, int]
        assert await database.read(_numbers) == [1, 2, 3]
        await database.close()

    async def test_a_cancelled_call_still_reports_its_commit(self, tmp_path: Path) -> None:
        database = await Database.open(tmp_path / "numbers.db", _NUMBERS)
        committed: list[int] = []
        call = asyncio.ensure_future(database.write(_insert(1), committed.append))
        await asyncio.sleep(0)
        call.cancel()
        await database.write(_insert(2), committed.append)
        assert call.cancelled()
        assert committed == await database.read(_numbers) == [1, 2]
        await database.close()

    async def test_closing_finishes_what_was_asked_for(self, tmp_path: Path) -> None:
        database = await Database.open(tmp_path / "numbers.db", _NUMBERS)
        calls = [asyncio.ensure_future(database.write(_insert(n))) for n in range(20)]
        await asyncio.sleep(0)
        await database.close()
        assert await asyncio.gather(*calls) == list(range(20))

    async def test_readers_cannot_write(self, tmp_path: Path) -> None:
        database = await Database.open(tmp_path / "numbers.db", _NUMBERS)
        with pytest.raises(StorageUnavailable, match="cannot be written"):
            await database.read(_insert(1))
        await database.close()


class FixedClock:
    """A clock that stands where it is put, and tells when it was looked at."""

    def __init__(self, now_ms: int) -> None:
        self.present_ms = now_ms
        self._looks: asyncio.Queue[int] = asyncio.Queue()

    def now_ms(self) -> int:
        self._looks.put_nowait(self.present_ms)
        return self.present_ms

    def monotonic_s(self) -> float:
        return self.present_ms / 1000

    async def seen(self, time_ms: int) -> None:
        """Wait until somebody was told this time."""
        while await self._looks.get() != time_ms:
            pass


class TestUpkeep:
    async def test_with_a_clock_retention_is_enforced_by_itself(self, tmp_path: Path) -> None:
        clock = FixedClock(START_MS)
        log = await SqliteRecordLog.open(tmp_path, clock=clock, retention_interval_s=0.005)
        await log.open_topic(topic(partitions=1, retention_s=60))
        await log.append(NAME, [record(1), record(2)])
        clock.present_ms = START_MS + 61_000
        await clock.seen(clock.present_ms)
        await clock.seen(clock.present_ms)  # the second time, so that the first round is over
        assert await log.start_positions(NAME) == (2,)
        await log.close()

    async def test_topics_that_are_not_opened_again_expire_too(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic(retention_s=60))
        await log.append(NAME, [record(n) for n in range(5)])
        await log.close()
        log = await SqliteRecordLog.open(tmp_path)
        assert await log.enforce_retention(START_MS + 61_000) == 5
        await log.close()

    async def test_what_expired_is_gone_from_the_file(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic(retention_s=60))
        await log.append(NAME, [record(n, body=b"confidential %d" % n + b"." * 900) for n in range(200)])
        await log.enforce_retention(START_MS + 61_000)
        await log.close()
        assert b"confidential" not in (tmp_path / "records.db").read_bytes()


async def test_ledger_entries_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path)
    await ledger.append([LedgerEntry("publish", START_MS, {})])
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        for statement in ("UPDATE entries SET kind = 'x'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="entries are final"):
                connection.execute(statement)
