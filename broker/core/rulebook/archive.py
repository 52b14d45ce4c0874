"""Reads a rulebook that was packed with tar and gzip, without trusting anything that it says.

Nothing is ever written under a name that it chooses. What is unpacked, each header, each file and their number are
bounded, so that a small file cannot become a large one; names are those of a rulebook's files, relative and without `..`.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from broker.core.rulebook.load import (
    FILES_LIMIT,
    TOTAL_LIMIT_BYTES,
    limit_of,
    misplaced,
    read_rulebook,
    revision_of,
    too_much,
)
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision

_CHUNK_BYTES = 64 * 1024
_MOST_AT_ONCE_BYTES = 1024 * 1024
"""More than any header of a rulebook's file takes; what tarfile reads at once is what a header asks it to."""
_IN_MEMORY_BYTES = 16 * 1024 * 1024
# tarfile calls itself for each header that belongs to another one.
_UNREADABLE = (
    *(tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError),
    RecursionError,
)
_BESIDE = frozenset({"README.md", ".regal/config.yaml"})


def read_directory_or_archive(path: Path) -> Revision:
    """The revision in a directory or in a `.tar.gz` file; raises RulebookRefused as both do. Blocking."""
    return read_archive(path) if path.is_file() else read_rulebook(path)


def read_archive(path: Path) -> Revision:
    """The revision whose files are packed in `path`, at the paths that they have inside a rulebook.

    Raises RulebookRefused with a line for each entry that may not be there, or for the file as a whole. Blocking.
    """
    return revision_of(read_files(path))


def read_files(path: Path) -> dict[str, bytes]:
    """As `read_archive`, of a part of a rulebook: whether anything is missing is not looked at."""
    try:
        with path.open("rb") as packed, tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as unpacked:
            _unpack(packed, unpacked, path)
            with tarfile.open(fileobj=_Bounded(unpacked), mode="r:") as archive:
                return _Entries(archive, path).read()
    except _UNREADABLE:
        # Not the exception's own words, which may quote what the file holds.
        what = f"{path}: is no tar.gz that can be read; pack it with `tar -C DIRECTORY -czf FILE .`"
        raise RulebookRefused((what,)) from None


def _unpack(packed: IO[bytes], unpacked: IO[bytes], path: Path) -> None:
    # Each entry has a header of 512 bytes and ends on a multiple of 512.
    left = TOTAL_LIMIT_BYTES + 1024 * FILES_LIMIT
    with gzip.GzipFile(fileobj=packed) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise RulebookRefused((too_much(str(path)),))
            unpacked.write(chunk)
    unpacked.seek(0)


class _Bounded(io.RawIOBase):
    """What tarfile reads from. A header that wants its gigabytes of extensions read at once is refused.

    So is one that leads back: sizes may be written as negative, and what was read again under one name after another
    would be more than was ever unpacked.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reached = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE_BYTES:
            raise ValueError("a header of the archive is too large")
        content = self._file.read(size)
        self._reached = max(self._reached, self._file.tell())
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # tarfile reads the last byte of each entry again, to see that it is there.
        if whence != io.SEEK_SET or offset < self._reached - 1:
            raise ValueError("the archive leads back")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


class _Entries:
    """The files of an archive, each checked before it is read."""

    def __init__(self, archive: tarfile.TarFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self._findings: list[str] = []

    def read(self) -> dict[str, bytes]:
        """Content by name. Raises RulebookRefused."""
        files: dict[str, bytes] = {}
        total_bytes = 0
        for number, entry in enumerate(self._archive, 1):
            total_bytes += entry.size
            if number > FILES_LIMIT or total_bytes > TOTAL_LIMIT_BYTES:
                self._findings.append(too_much(str(self._path)))
                break
            name = entry.name.removeprefix("./")
            what = _refused(entry, name, files)
            if what is not None:
                self._findings.append(f"{self._path}: {_shown(entry.name)}: {what}")
            elif not entry.isdir() and name not in _BESIDE:
                files[name] = b"".join(self._content(entry))
        if self._findings:
            raise RulebookRefused(tuple(self._findings[:100]))
        return files

    def _content(self, entry: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._archive.extractfile(entry)
        if file is not None:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def _refused(entry: tarfile.TarInfo, name: str, files: dict[str, bytes]) -> str | None:
    if entry.issparse() or not (entry.isreg() or entry.isdir()):
        return "is neither a plain file nor a directory; put the file itself there"
    if entry.size < 0:
        return "has a negative size; pack it again"
    if name.startswith("/"):
        return "has an absolute name; pack it with a relative one"
    if ".." in name.split("/"):
        return "leads out of the rulebook; pack it with its path inside"
    if entry.isdir() or name in _BESIDE:
        return None
    if name in files:
        return "stands twice; keep one"
    if entry.size > (limit_bytes := limit_of(name)):
        return f"is larger than {limit_bytes} bytes; split it"
    return misplaced(name)


def _shown(name: str) -> str:
    """A name that somebody chose, fit for a line of text."""
    return ascii(name)[1:-1][:200]
