"""Subscriptions on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import orjson

from broker.adapters.sqlite.database import Database
from broker.adapters.sqlite.files import Schema
from broker.errors import EpochConflict
from broker.model.record import Positions
from broker.model.subscription import Subscription, SubscriptionKey

# An epoch is never given twice under one name: a new subscription begins above all that were ever deleted, or the stream
# of a deleted one could acknowledge for its successor.
_SCHEMA = Schema(
    version=1,
    sql="""
CREATE TABLE subscriptions (
    agency TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    incarnation BLOB NOT NULL,
    purpose TEXT NOT NULL,
    positions TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (agency, subject, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE deleted (greatest_epoch INTEGER NOT NULL) STRICT;
INSERT INTO deleted VALUES (-1);
""",
)


class SqliteSubscriptionStore:
    """The SubscriptionStore port on `subscriptions.db`."""

    def __init__(self, database: Database, epochs: dict[SubscriptionKey, int]) -> None:
        self._database = database
        self._epochs = epochs

    @classmethod
    async def open(cls, directory: Path, *, max_bytes: int | None = None) -> SqliteSubscriptionStore:
        """Open or create the store in a data directory, for this process alone.

        max_bytes: the most that the database file may take, without its write-ahead log. Raises StorageUnavailable.
        """
        database = await Database.open(directory / "subscriptions.db", _SCHEMA, max_bytes)
        try:
            return cls(database, await database.read(_epochs))
        except BaseException:
            await database.close()
            raise

    async def create(self, subscription: Subscription) -> Subscription:
        """See SubscriptionStore; the stored epoch is the given one, or the first that was never in use if greater."""
        return await self._database.write(partial(_create, subscription=subscription), self._note)

    async def get(self, key: SubscriptionKey) -> Subscription | None:
        """See SubscriptionStore."""
        return await self._database.read(partial(_get, key=key))

    async def list(self, agency: str, subject: str) -> Sequence[Subscription]:
        """See SubscriptionStore."""
        return await self._database.read(partial(_list, agency=agency, subject=subject))

    async def claim(self, key: SubscriptionKey, now_ms: int) -> Subscription | None:
        """See SubscriptionStore."""
        return await self._database.write(partial(_raise_epoch, key=key, now_ms=now_ms), self._note)

    async def commit(self, key: SubscriptionKey, epoch: int, positions: Positions, now_ms: int) -> None:
        """See SubscriptionStore; raises ValueError for another number of partitions."""
        work = partial(_commit, key=key, epoch=epoch, positions=positions, now_ms=now_ms)
        await self._database.write(work)

    async def seek(self, key: SubscriptionKey, positions: Positions, now_ms: int) -> Subscription | None:
        """See SubscriptionStore; raises ValueError for another number of partitions."""
        work = partial(_raise_epoch, key=key, now_ms=now_ms, positions=positions)
        return await self._database.write(work, self._note)

    async def delete(self, key: SubscriptionKey) -> bool:
        """See SubscriptionStore."""
        return await self._database.write(partial(_delete, key=key), lambda _: self._forget(key))

    def present_epoch(self, key: SubscriptionKey) -> int | None:
        """See SubscriptionStore."""
        return self._epochs.get(key)

    async def close(self) -> None:
        """See SubscriptionStore."""
        await self._database.close()

    def _note(self, subscription: Subscription | None) -> None:
        if subscription is not None:
            self._epochs[subscription.key] = subscription.epoch

    def _forget(self, key: SubscriptionKey) -> None:
        self._epochs.pop(key, None)


_Row = tuple[str, str, str, str, bytes, str, str, int, int, int]


def _subscription(row: _Row) -> Subscription:
    agency, subject, name, topic, incarnation, purpose, positions, epoch, created_ms, updated_ms = row
    return Subscription(
        SubscriptionKey(agency, subject, name),
        topic,
        incarnation,
        purpose,
        tuple(orjson.loads(positions)),
        epoch,
        created_ms,
        updated_ms,
    )


def _store(connection: sqlite3.Connection, new: Subscription) -> Subscription:
    """Insert or replace."""
    positions = orjson.dumps(new.positions).decode()
    row = (new.topic, new.incarnation, new.purpose, positions, new.epoch, new.created_ms, new.updated_ms)
    connection.execute(
        "INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*astuple(new.key), *row),
    )
    return new


def _epochs(connection: sqlite3.Connection) -> dict[SubscriptionKey, int]:
    rows = connection.execute("SELECT agency, subject, name, epoch FROM subscriptions").fetchall()
    return {SubscriptionKey(agency, subject, name): epoch for agency, subject, name, epoch in rows}


def _get(connection: sqlite3.Connection, key: SubscriptionKey) -> Subscription | None:
    row = connection.execute(
        "SELECT * FROM subscriptions WHERE agency = ? AND subject = ? AND name = ?", astuple(key)
    ).fetchone()
    return None if row is None else _subscription(row)


def _list(connection: sqlite3.Connection, agency: str, subject: str) -> list[Subscription]:
    rows = connection.execute(
        "SELECT * FROM subscriptions WHERE agency = ? AND subject = ? ORDER BY name", (agency, subject)
    )
    return [_subscription(row) for row in rows.fetchall()]


def _create(connection: sqlite3.Connection, subscription: Subscription) -> Subscription:
    present = _get(connection, subscription.key)
    if present is not None:
        return present
    (greatest,) = connection.execute("SELECT greatest_epoch FROM deleted").fetchone()
    return _store(connection, replace(subscription, epoch=max(subscription.epoch, greatest + 1)))


def _raise_epoch(
    connection: sqlite3.Connection, key: SubscriptionKey, now_ms: int, positions: Positions | None = None
) -> Subscription | None:
    """A claim, or with `positions` a seek."""
    present = _get(connection, key)
    if present is None:
        return None
    moved = present.positions if positions is None else positions
    _check_count(present, moved)
    return _store(connection, replace(present, positions=moved, epoch=present.epoch + 1, updated_ms=now_ms))


def _commit(
    connection: sqlite3.Connection, key: SubscriptionKey, epoch: int, positions: Positions, now_ms: int
) -> None:
    present = _get(connection, key)
    if present is None or present.epoch != epoch:
        raise EpochConflict(f"subscription '{key.name}' is not at epoch {epoch} any more")
    _check_count(present, positions)
    greater = tuple(max(pair) for pair in zip(present.positions, positions, strict=True))
    _store(connection, replace(present, positions=greater, updated_ms=now_ms))


def _check_count(present: Subscription, positions: Positions) -> None:
    if len(positions) != len(present.positions):
        raise ValueError(
            f"{len(positions)} positions for a subscription to {len(present.positions)} partitions of"
            f" '{present.topic}'"
        )


def _delete(connection: sqlite3.Connection, key: SubscriptionKey) -> bool:
    present = _get(connection, key)
    if present is None:
        return False
    connection.execute(
        "DELETE FROM subscriptions WHERE agency = ? AND subject = ? AND name = ?", astuple(key)
    )
    connection.execute("UPDATE deleted SET greatest_epoch = max(greatest_epoch, ?)", (present.epoch,))
    return True
