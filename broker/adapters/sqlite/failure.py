"""What an error of SQLite or of the operating system means for a caller, in one line."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.errors import StorageUnavailable

_NEARLY_FULL_BYTES = 1 << 20

# Primary result codes (the low byte), https://www.sqlite.org/rescode.html
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
_MEANING = {
    _BUSY: "is locked by another program; end it",
    _LOCKED: "is locked by another program; end it",
    _READONLY: "cannot be written; check its owner and permissions",
    _IOERR: "cannot be read or written; check the disk",
    _CORRUPT: "is damaged; restore it from a backup",
    _FULL: "has no space left; free some on its disk, or raise its limit",
    _CANTOPEN: "cannot be opened; check its directory, owner and permissions",
    _NOTADB: "is not an SQLite database; restore it from a backup",
}


def storage_unavailable(error: Exception, path: Path) -> StorageUnavailable:
    """The port's error for a failure on the file at `path`; it names SQLite's code, never a value."""
    if isinstance(error, OSError):
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return StorageUnavailable(f"{path} {_MEANING[_FULL if full else _CANTOPEN]}", full=full)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == _IOERR and _nearly_full(path):
        # SQLite reports a full disk as SQLITE_FULL for the database, but as an I/O error for its shared-memory index.
        code = _FULL
    meaning = _MEANING.get(code, "failed; see the name of the error")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StorageUnavailable(f"{path} {meaning} ({name})", full=code == _FULL)


def _nearly_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _NEARLY_FULL_BYTES
    except OSError:
        return False


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise StorageUnavailable in place of SQLite's and the operating system's errors."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise storage_unavailable(error, path) from error
