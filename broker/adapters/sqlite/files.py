"""Database files: one owner each, private, with a checked schema."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from broker.adapters.sqlite.failure import reported
from broker.errors import StorageUnavailable

_BUSY_TIMEOUT_S = 5.0
_PAGE_BYTES = 8_192  # measured: records of 1 KB are appended with a fifth less work than with pages of 4 KiB
_WRITE_CACHE_KIB = 16_384
_CHECKPOINT_PAGES = 4_000
_MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one file; `version` is kept in SQLite's user_version and raised with each change of `sql`."""

    version: int
    sql: str


def lock(path: Path) -> int:
    """Take the file at `path` for this process and return the lock's descriptor; closing it gives the file back.

    The lock is on a file beside the database: closing any descriptor of the database itself would drop SQLite's own
    locks (fcntl(2)). Creates the directory, for the owner only. Raises StorageUnavailable if somebody else has it.
    """
    with reported(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StorageUnavailable(
            f"{path} is in use by the process {owner}; stop it, or choose another data directory"
        ) from None
    except OSError:
        os.close(descriptor)
        with reported(path):
            raise
    return descriptor


def connect_writer(path: Path, schema: Schema, max_bytes: int | None) -> sqlite3.Connection:
    """The one connection that writes, on a file that has the schema; creates it if it is absent.

    `max_bytes` limits the database file, without its write-ahead log. Raises StorageUnavailable.
    """
    if sqlite3.sqlite_version_info < _MINIMUM_SQLITE:
        raise StorageUnavailable(
            f"SQLite {sqlite3.sqlite_version} is too old for {path}; install 3.37 or newer"
        )
    with reported(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(path)
        try:
            _set_up(connection, path, schema)
            _limit(connection, max_bytes)
            _sync_directory(path.parent)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect_beside(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, beside the file's owner and without its lock; `path` is absolute.

    It makes none of the files beside the database that SQLite shares between its users: while the owner runs they
    are there, and when it has closed the database they are gone, and all is in the file. Raises sqlite3.Error, and
    StorageUnavailable for a copy of a running database that is not whole.
    """
    pending, shared = (path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm"))
    written = pending.exists() and pending.stat().st_size > 0
    if written and not shared.exists():
        raise StorageUnavailable(
            f"{path} was copied while the broker ran; copy {shared.name} as well, or use SQLite's '.backup'"
        )
    how = "mode=ro&readonly_shm=1" if written else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
    )


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are opened explicitly (isolation_level None); a connection moves between threads only to be closed.
    return sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
    )


def _set_up(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    # These two only have an effect before the first table.
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageUnavailable(f"{path} cannot use a write-ahead log; put it on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{_WRITE_CACHE_KIB}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON").fetchall()  # what expired does not linger in free pages
    _ensure_schema(connection, path, schema)


def _ensure_schema(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) = 0 FROM sqlite_schema").fetchone()[0]
    if found == schema.version:
        return
    if not empty or found:
        raise StorageUnavailable(
            f"{path} has schema {found} and this version needs {schema.version}; run the version that wrote it"
        )
    # One transaction, so that a crash leaves either nothing or all of it.
    connection.executescript(f"BEGIN IMMEDIATE;{schema.sql};PRAGMA user_version = {schema.version};COMMIT;")


def _sync_directory(directory: Path) -> None:
    """Make the names of new files durable, as their contents are (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _limit(connection: sqlite3.Connection, max_bytes: int | None) -> None:
    if max_bytes is None:
        return
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}").fetchall()
