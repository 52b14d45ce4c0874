"""The embedded backend keeps retention by itself, and its ledger does not change."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.model.ledger import LedgerEntry, StoredCheckpoint
from tests.contract.samples import START_MS, read_all, record, topic
from tests.fakes.ledger_log import open_writer

NAME = "crash-reports"


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

    async def test_two_rounds_at_once_never_move_a_start_back(self, tmp_path: Path) -> None:
        log = await SqliteRecordLog.open(tmp_path)
        await log.open_topic(topic(partitions=1, retention_s=60))
        await log.append(NAME, [record(n, recorded_ms=START_MS + 1_000 * n) for n in range(10)])
        await asyncio.gather(*(log.enforce_retention(START_MS + 60_000 + later) for later in (8_000, 4_000)))
        assert await log.start_positions(NAME) == (8,)
        await log.close()
        log = await SqliteRecordLog.open(tmp_path)
        assert await log.start_positions(NAME) == (8,)
        assert [found.offset for found in await read_all(log, NAME)] == [8, 9]
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
    ledger = await open_writer(await SqliteLedgerLog.open(tmp_path, "broker"))
    await ledger.append([LedgerEntry("publish", START_MS, {})])
    await ledger.log.put_checkpoint(StoredCheckpoint(b"note", ()))
    await ledger.log.expire(START_MS + 1)
    await ledger.close()
    statements = {
        "entries": ("UPDATE entries SET leaf = x'00'", "DELETE FROM entries"),
        "checkpoints": ("UPDATE checkpoints SET note = x'00'", "DELETE FROM checkpoints"),
        "claims": ("UPDATE claims SET epoch = 9", "DELETE FROM claims"),
    }
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        for what, pair in statements.items():
            for statement in pair:
                with pytest.raises(sqlite3.IntegrityError, match=f"{what} are final"):
                    connection.execute(statement)


async def test_what_expired_is_gone_from_the_ledgers_file(tmp_path: Path) -> None:
    ledger = await open_writer(await SqliteLedgerLog.open(tmp_path, "broker"))
    for n in range(200):
        await ledger.append(
            [LedgerEntry("publish", START_MS + n, {"call": f"confidential {n}." + "." * 900})]
        )
    await ledger.log.expire(START_MS + 199)
    await ledger.close()
    content = (tmp_path / "ledger.db").read_bytes()
    assert b"confidential 199." in content
    assert content.count(b"confidential") == 1
