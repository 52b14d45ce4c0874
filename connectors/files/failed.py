"""The folder of dead letters: the record as it was, and beside it NAME.cause.json, which tells what became of it.

A letter's name is made of where it comes from and what it holds, so that keeping it again after a kill changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from connectors.files.disk import (
    NoPlainFile,
    move_aside,
    open_plain,
    read_whole,
    sync,
    write_aside,
    write_whole,
)
from connectors.files.pieces import Piece
from connectors.runtime.refusals import Letter

CAUSE = ".cause.json"
_CHUNK_BYTES = 1024 * 1024
_MOST_CAUSE_BYTES = 64 * 1024
_LONGEST_STEM = 150


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter on disk."""

    path: Path
    attempt: int
    origin: dict[str, str]

    @property
    def cause_path(self) -> Path:
        """What tells of it."""
        return self.path.with_name(self.path.name + CAUSE)

    def data(self, most_bytes: int) -> bytes:
        """The record. Raises NoPlainFile, OSError, and ValueError if it is larger."""
        data = read_whole(self.path, most_bytes + 1)
        return data.removesuffix(b"\n") if "line" in self.origin else data


class FailedFolder:
    """Dead letters in one directory; used by a connector's task and its redrive at once."""

    def __init__(self, connector: str, directory: Path, source: Path) -> None:
        """source: the directory of the files that letters are parts of."""
        self._connector = connector
        self._directory = directory
        self._source = source
        self._lock = Lock()

    async def put(self, letters: Sequence[Letter[Piece]]) -> None:
        """Keep them. Raises NoPlainFile, OSError."""
        await asyncio.to_thread(self._put_all, letters)

    def kept(self) -> list[Kept]:
        """All letters, the oldest first. Blocking; raises OSError."""
        with self._lock:
            names = {
                entry.name: entry.stat(follow_symlinks=False).st_mtime_ns
                for entry in os.scandir(self._directory)
            }
        found = [name for name in names if name.endswith(CAUSE) and name.removesuffix(CAUSE) in names]
        ordered = sorted(found, key=lambda name: (names[name], name))
        return [kept for kept in map(self._read, ordered) if kept is not None]

    def settle(self, letter: Kept, done: Path) -> None:
        """It has been sent: move it there. Blocking; raises OSError."""
        with self._lock:
            move_aside(letter.path, done)
            letter.cause_path.unlink(missing_ok=True)

    def fail_again(self, letter: Kept, cause: str) -> None:
        """It was refused once more. Blocking; raises OSError."""
        with self._lock:
            write_whole(letter.cause_path, [self._told(cause, letter.attempt + 1, letter.origin)])

    def _put_all(self, letters: Sequence[Letter[Piece]]) -> None:
        with self._lock:
            for letter in letters:
                self._put(letter)
            sync(self._directory)

    def _put(self, letter: Letter[Piece]) -> None:
        digest = hashlib.sha256()
        aside = write_aside(self._directory, ".letter.tmp", _hashed(self._content(letter.record), digest))
        kept = self._directory / _name(letter.record, digest.hexdigest()[:12])
        # What tells of it first: a record without it would be taken for somebody else's.
        told = self._told(letter.cause, letter.attempt, dict(letter.origin))
        write_whole(kept.with_name(kept.name + CAUSE), [told])
        aside.replace(kept)

    def _content(self, piece: Piece) -> Iterator[bytes]:
        if piece.data is not None:
            yield piece.data
        else:
            yield from _region(self._source / piece.name, piece.start, piece.end)
        if piece.line and piece.data is not None:
            yield b"\n"

    def _told(self, cause: str, attempt: int, origin: dict[str, str]) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {
            "cause": cause,
            "attempt": attempt,
            "connector": self._connector,
            "origin": origin,
            "time": now,
        }
        return json.dumps(told, indent=1).encode() + b"\n"

    def _read(self, name: str) -> Kept | None:
        try:
            found: Any = json.loads(read_whole(self._directory / name, _MOST_CAUSE_BYTES))
            origin = {str(key): str(value) for key, value in found["origin"].items()}
            path = self._directory / name.removesuffix(CAUSE)
            return Kept(path, int(found["attempt"]), origin)
        except (OSError, NoPlainFile, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # none of ours


def _name(piece: Piece, digest: str) -> str:
    path = Path(piece.name)
    stem = path.stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    line = f".line-{piece.line}" if piece.line else ""
    return f"{stem}{line}.{digest}{path.suffix}"


def _hashed(parts: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for part in parts:
        digest.update(part)
        yield part


def _region(path: Path, start: int, end: int) -> Iterator[bytes]:
    with os.fdopen(open_plain(path), "rb") as file:
        file.seek(start)
        while start < end and (part := file.read(min(_CHUNK_BYTES, end - start))):
            start += len(part)
            yield part
