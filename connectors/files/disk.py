"""Operations on files that a kill does not tear, that follow no link, and that overwrite nothing unasked."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from connectors.runtime.model import ConnectorFailed

TEMPORARY = ".tmp"
"""The ending of a file that is being written; its name begins with a dot, too."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NoPlainFile(Exception):
    """A link, FIFO, device, socket or directory where a file was expected."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells that a file is still the one that it was."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """From what stat says."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def open_plain(path: Path) -> int:
    """A descriptor to read a plain file; O_NONBLOCK, so that a FIFO keeps nobody waiting. Raises NoPlainFile, OSError."""
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
        raise NoPlainFile(path.name) from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NoPlainFile(path.name)


def read_whole(path: Path, most_bytes: int) -> bytes:
    """A plain file of at most that size. Raises NoPlainFile, OSError, and ValueError if it is larger."""
    with os.fdopen(open_plain(path), "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError("too large")
    return content


def write_whole(path: Path, content: Iterable[bytes], mode: int = 0o600) -> None:
    """Write a file so that it is there whole or as it was before, also after a power cut. Raises OSError."""
    write_aside(path.parent, _temporary(path), content, mode).replace(path)
    sync(path.parent)


def write_hint(path: Path, content: bytes) -> None:
    """The same without waiting for the disk: after a power cut it may be anything. Raises OSError."""
    temporary = path.with_name(_temporary(path))
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, _NEW, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def _temporary(path: Path) -> str:
    return f".{path.name}{TEMPORARY}"


def write_aside(directory: Path, name: str, content: Iterable[bytes], mode: int = 0o600) -> Path:
    """A durable file of that name, anew if an earlier attempt left one. What cannot be finished is taken away."""
    path = directory / name
    path.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(path, _NEW, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return path


def move_aside(path: Path, directory: Path) -> Path:
    """Rename a file into another directory under its name, or one with a number if that is taken; where it is then.

    The new name is taken with an empty file first, so that no other one is overwritten. Not made durable: after a power
    cut the file may be back. Raises OSError.
    """
    for number in range(1, 1_000_000):
        name = path.name if number == 1 else f"{path.stem}.{number}{path.suffix}"
        try:
            os.close(os.open(directory / name, _NEW, 0o600))
        except FileExistsError:
            continue
        try:
            path.rename(directory / name)
        except OSError:
            (directory / name).unlink()
            raise
        return directory / name
    raise FileExistsError(17, "every name is taken", str(directory / path.name))


def sync(directory: Path) -> None:
    """Make what was created, renamed and removed in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def findings(directory: Path) -> list[str]:
    """What keeps a directory from being used, a line each, with the remedy."""
    try:
        found = directory.stat()
    except OSError as error:
        return [f"{directory}: {error.strerror}; make it, or correct the path"]
    if not stat.S_ISDIR(found.st_mode):
        return [f"{directory}: is no directory; correct the path"]
    # Who may write there publishes in the agency's name, or puts files in the exchange's place.
    if found.st_mode & stat.S_IWOTH:
        return [f"{directory}: every user may write there; run 'chmod o-w' on it"]
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return [f"{directory}: this process may not read and write there; give it the right to"]
    return []


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep a directory for one connector, whatever process runs it. Raises ConnectorFailed, OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConnectorFailed(
                f"{directory}: another connector works there; end it, or use another"
            ) from None
        yield
    finally:
        os.close(descriptor)
