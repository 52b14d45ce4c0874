"""The contract suites on SQLite, in a temporary directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.adapters.sqlite.control import SqliteControlLog
from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.ledger import SqliteLedgerLog
from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader
from broker.adapters.sqlite.ledger_rows import SCHEMA
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.record_reader import SqliteRecordReader
from broker.adapters.sqlite.rulebook_reader import SqliteRulebookReader
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore
from broker.core.control.seal import ControlSeal
from broker.core.ledger.writer import LedgerWriter
from broker.model.ledger import EncodedEntry
from broker.model.registry import Topic
from broker.ports.keys import Keys
from broker.ports.ledger_log import LedgerLog
from broker.ports.record_log import RecordLog
from tests.contract.backend import OWN_KEYS, FencingLog
from tests.fakes.ledger_log import open_writer


class SqliteBackend:
    """SQLite files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def address(self) -> str:
        return str(self._directory)

    async def open_record_log(self) -> SqliteRecordLog:
        return await SqliteRecordLog.open(self._directory)

    async def open_record_reader(self) -> SqliteRecordReader:
        return await SqliteRecordReader.open(self._directory / "records.db")

    async def open_ledger(self) -> LedgerWriter:
        return await open_writer(await SqliteLedgerLog.open(self._directory, "broker"))

    async def open_ledger_logs(self, *instances: str) -> list[FencingLog]:
        """On one database, since another process or another opening of it is refused."""
        database = await Database.open(self._directory / "ledger.db", SCHEMA)
        return [SqliteLedgerLog(database, name) for name in instances]

    async def open_ledger_reader(self) -> SqliteLedgerReader:
        return await SqliteLedgerReader.open(self._directory / "ledger.db")

    async def expire_ledger(self, log: LedgerLog, before_ms: int) -> None:
        await log.expire(before_ms)

    async def rewrite_ledger(self, instance: str, change: Callable[[list[EncodedEntry]], None]) -> None:
        with closing(sqlite3.connect(self._directory / "ledger.db")) as connection, connection:
            for trigger in ("entries_are_final", "entries_stay"):
                connection.execute(f"DROP TRIGGER {trigger}")
            rows = connection.execute("SELECT leaf, openings FROM entries WHERE instance = ?", (instance,))
            entries = [EncodedEntry(leaf, openings) for leaf, openings in rows]
            change(entries)
            connection.execute("DELETE FROM entries WHERE instance = ?", (instance,))
            connection.executemany(
                "INSERT INTO entries (instance, number, time_ms, leaf, openings) VALUES (?, ?, 0, ?, ?)",
                ((instance, n, each.leaf, each.openings) for n, each in enumerate(entries)),
            )

    async def open_control_log(self, keys: Keys = OWN_KEYS) -> SqliteControlLog:
        return await SqliteControlLog.open(self._directory, ControlSeal(keys))

    async def open_subscription_store(self) -> SqliteSubscriptionStore:
        return await SqliteSubscriptionStore.open(self._directory)

    async def open_rulebook_store(self) -> SqliteRulebookStore:
        return await SqliteRulebookStore.open(self._directory)

    async def open_rulebook_reader(self) -> SqliteRulebookReader:
        return SqliteRulebookReader(self._directory / "rulebooks.db")

    async def expire(self, log: RecordLog, topic: Topic, now_ms: int) -> None:
        assert isinstance(log, SqliteRecordLog)
        await log.enforce_retention(now_ms)

    async def tamper_with_rulebook(self, revision_id: str, path: str, content: bytes) -> None:
        with closing(sqlite3.connect(self._directory / "rulebooks.db")) as connection, connection:
            changed = connection.execute(
                "UPDATE files SET content = ? WHERE path = ? AND revision ="
                " (SELECT number FROM revisions WHERE id = ?)",
                (content, path, revision_id),
            )
            assert changed.rowcount == 1

    async def stop(self) -> None:
        """The temporary directory is pytest's to remove."""


async def start(request: pytest.FixtureRequest) -> SqliteBackend:
    """A backend in the test's temporary directory."""
    directory: Path = request.getfixturevalue("tmp_path")
    return SqliteBackend(directory / "data")


async def connect(address: str) -> SqliteBackend:
    """The backend in a directory."""
    return SqliteBackend(Path(address))
