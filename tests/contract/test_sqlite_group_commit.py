"""One writing thread: many callers, few commits, nobody pays for another's error."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from broker.adapters.sqlite import files
from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.adapters.sqlite.writer import Writer
from broker.errors import StorageUnavailable

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
