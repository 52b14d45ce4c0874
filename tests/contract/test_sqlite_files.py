"""What only the embedded backend has: files that one process owns, and that may not be what they should be."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from broker.adapters.sqlite import files
from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore
from broker.errors import StorageUnavailable
from tests.contract.samples import appended, read_all, record, topic

NAME = "crash-reports"
ADAPTERS = {
    "records.db": SqliteRecordLog,
    "ledger.db": SqliteLedgerLog,
    "subscriptions.db": SqliteSubscriptionStore,
    "rulebooks.db": SqliteRulebookStore,
}
Adapter = (
    type[SqliteRecordLog] | type[SqliteLedgerLog] | type[SqliteSubscriptionStore] | type[SqliteRulebookStore]
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
            elif isinstance(store, SqliteLedgerLog):
                await store.claim()
            elif isinstance(store, SqliteSubscriptionStore):
                await store.list("ems", "p-1")
            else:
                await store.list()

    async def test_closing_ends_reads_that_wait(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic(partitions=1))
        waiting = asyncio.ensure_future(log.read(NAME, (0,), max_records=1, max_bytes=100, wait_s=60))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(StorageUnavailable, match="is closed"):
            await asyncio.wait_for(waiting, timeout=30)


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
