"""Reading `ledger.db` with read access alone: beside a running broker, after it ended, and after it was killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader
from broker.errors import StorageUnavailable
from broker.model.ledger import LedgerEntry, ReadPoint
from tests.contract.samples import START_MS
from tests.fakes.ledger_log import OpenedWriter, open_writer


def files(directory: Path) -> dict[str, bytes]:
    """What is there, but for the memory that SQLite's users share."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nothing can be made or changed there."""
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)
    yield
    directory.chmod(0o700)


async def count(path: Path) -> int:
    reader = await SqliteLedgerReader.open(path)
    found = [each async for page in reader.read("broker", ReadPoint()) for each in page.entries]
    await reader.close()
    return len(found)


async def written(directory: Path, entries: int = 5) -> OpenedWriter:
    ledger = await open_writer(await SqliteLedgerLog.open(directory))
    await ledger.append([LedgerEntry("publish", START_MS + n, {"call": n}) for n in range(entries)])
    return ledger


async def test_a_ledger_that_is_closed_is_read_and_nothing_is_created(tmp_path: Path) -> None:
    await (await written(tmp_path)).close()
    before = files(tmp_path)
    assert set(before) == {"ledger.db", "ledger.lock"}
    assert await count(tmp_path / "ledger.db") == 5
    assert files(tmp_path) == before


async def test_a_ledger_that_is_open_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    ledger = await written(tmp_path)
    before = files(tmp_path)
    assert "ledger.db-wal" in before
    assert await count(tmp_path / "ledger.db") == 5
    assert files(tmp_path) == before
    await ledger.append([LedgerEntry("publish", START_MS, {"call": 5})])
    assert await count(tmp_path / "ledger.db") == 6
    await ledger.close()


async def test_what_a_killed_broker_left_is_read_whole_and_left_as_it_is(tmp_path: Path) -> None:
    ledger = await written(tmp_path / "running")
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "running", left)
    await ledger.close()
    before = files(left)
    assert "ledger.db-wal" in before
    assert await count(left / "ledger.db") == 5
    assert files(left) == before


async def test_a_careless_copy_is_refused_and_not_repaired(tmp_path: Path) -> None:
    ledger = await written(tmp_path / "running")
    shutil.copytree(tmp_path / "running", tmp_path / "left", ignore=shutil.ignore_patterns("*-shm"))
    await ledger.close()
    before = files(tmp_path / "left")
    with pytest.raises(StorageUnavailable, match=r"copied while the broker ran; .*\.backup"):
        await SqliteLedgerReader.open(tmp_path / "left" / "ledger.db")
    assert files(tmp_path / "left") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write whatever the mode says")
async def test_read_access_is_enough(tmp_path: Path) -> None:
    await (await written(tmp_path)).close()
    with read_only(tmp_path):
        assert await count(tmp_path / "ledger.db") == 5


async def test_a_name_with_marks_of_an_address_is_the_files_name(tmp_path: Path) -> None:
    directory = tmp_path / "odd?mode=rw&immutable=0#%41"
    await (await written(directory)).close()
    assert await count(directory / "ledger.db") == 5
    assert set(files(directory)) == {"ledger.db", "ledger.lock"}


async def test_no_file_an_older_schema_and_another_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"ledger\.db cannot be opened"):
        await SqliteLedgerReader.open(tmp_path / "ledger.db")
    assert files(tmp_path) == {}
    (tmp_path / "other.db").write_bytes(b"not a database\n" * 100)
    with pytest.raises(StorageUnavailable, match="not an SQLite database"):
        await SqliteLedgerReader.open(tmp_path / "other.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.executescript("CREATE TABLE entries (position INTEGER); PRAGMA user_version = 1;")
    with pytest.raises(StorageUnavailable, match="has schema 1 and this version reads 2"):
        await SqliteLedgerReader.open(tmp_path / "ledger.db")
    with pytest.raises(StorageUnavailable, match="has schema 1 and this version needs 2; run the version"):
        await SqliteLedgerLog.open(tmp_path)
