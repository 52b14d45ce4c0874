"""The contract suites on SQLite, in a temporary directory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.adapters.sqlite.ledger import SqliteLedger
from broker.adapters.sqlite.record_log import SqliteRecordLog
from broker.adapters.sqlite.rulebook_reader import SqliteRulebookReader
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore
from broker.model.registry import Topic
from broker.ports.record_log import RecordLog


class SqliteBackend:
    """SQLite files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def address(self) -> str:
        return str(self._directory)

    async def open_record_log(self) -> SqliteRecordLog:
        return await SqliteRecordLog.open(self._directory)

    async def open_ledger(self) -> SqliteLedger:
        return await SqliteLedger.open(self._directory)

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
