"""The state directory of a run: its owner's alone, used by one process at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "control.sock"
LOCK = "lock"
LONGEST_SOCKET_PATH_BYTES = 107
"""Of a Unix socket on Linux: 108 bytes with the NUL (unix(7))."""


class StateDirectoryRefused(Exception):
    """A state directory that cannot be used; one line: which, why, and what to do."""


def socket_path(directory: Path) -> Path:
    """Where the control socket of a state directory is. Raises StateDirectoryRefused for a path that is too long."""
    path = directory / SOCKET
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH_BYTES:
        raise StateDirectoryRefused(
            f"{path}: is {length} bytes long and a Unix socket's path at most {LONGEST_SOCKET_PATH_BYTES}; "
            "choose a shorter state directory, or a relative path"
        )
    return path


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory (0700) if it is missing, and hold it for this process alone. Raises StateDirectoryRefused."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(directory)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateDirectoryRefused(
            f"{directory}: {error.strerror}; choose a directory that this process may write, with --state"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateDirectoryRefused(
                f"{directory}: another process runs connectors there; end it, or choose another with --state"
            ) from None
        yield
    finally:
        os.close(lock)


def _check_private(directory: Path) -> None:
    """Who may write there decides what is paused, and who may connect there what the offsets are."""
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise StateDirectoryRefused(f"{directory}: belongs to somebody else; choose another with --state")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StateDirectoryRefused(f"{directory}: others may enter it; chmod 700 {directory}")
