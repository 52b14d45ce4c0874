"""A witness that is a file, on storage that the broker's operator cannot rewrite: each checkpoint is appended as a line.

A line is a JSON object with `origin`, `size`, `time_ms` (when it was written) and `note`, the signed checkpoint. The file is
only ever appended to, so it may be on write-once storage or have the append-only attribute.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.judge import RootConflict, judge
from broker.ports.clock import Clock
from broker.ports.witness import WitnessFork, WitnessUnavailable, WitnessUpdate

_BLOCK_BYTES = 64 * 1024
_LINE_BYTES = 256 * 1024


class FileWitness:
    """Implements Witness. The file must exist: one that is absent may mean that its storage is not mounted."""

    def __init__(self, name: str, path: Path, clock: Clock) -> None:
        self._name = name
        self._path = path
        self._clock = clock

    @property
    def name(self) -> str:
        """See Witness."""
        return self._name

    async def held_size(self, origin: str, checkpoint: bytes) -> int:
        """See Witness; `checkpoint` is not needed."""
        note = await self.latest(origin)
        return 0 if note is None else unverified_checkpoint(note).size

    async def latest(self, origin: str) -> bytes | None:
        """See Witness. What a crash left unfinished at the end does not count."""
        return await asyncio.to_thread(self._latest, origin)

    async def offer(self, update: WitnessUpdate) -> None:
        """See Witness; makes no cosignature. Durable on return."""
        await asyncio.to_thread(self._append, update)

    async def close(self) -> None:
        """Nothing stays open between calls."""

    def _latest(self, origin: str) -> bytes | None:
        with self._opened(os.O_RDONLY) as descriptor:
            return self._find(descriptor, origin)

    def _append(self, update: WitnessUpdate) -> None:
        offered = unverified_checkpoint(update.note)
        with self._opened(os.O_RDWR | os.O_APPEND) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            held_note = self._find(descriptor, update.origin)
            held = None if held_note is None else unverified_checkpoint(held_note)
            try:
                judge(held, update.old_size, update.proof, offered)
            except (RootConflict, ProofInvalid) as error:
                raise WitnessFork(
                    f"{self._name}: {self._path}: {error}; find out which history is true"
                ) from None
            if held is not None and held.size == offered.size:
                return
            content = {"origin": update.origin, "size": offered.size, "time_ms": self._clock.now_ms()}
            line = json.dumps(content | {"note": update.note.decode()}, ensure_ascii=False).encode() + b"\n"
            _write(descriptor, line)

    def _find(self, descriptor: int, origin: str) -> bytes | None:
        """The last line of this origin that can be read, from the end backwards."""
        rest, position = b"", os.fstat(descriptor).st_size
        while position:
            begin = max(0, position - _BLOCK_BYTES)
            lines = (os.pread(descriptor, position - begin, begin) + rest).split(b"\n")
            # The first piece may have its beginning in the block before.
            rest, position = lines[0], begin
            if len(rest) > _LINE_BYTES:
                raise WitnessUnavailable(
                    f"{self._name}: {self._path} is no file of checkpoints; name another"
                )
            for line in reversed(lines[1:] if position else lines):
                note = _note_of(line, origin)
                if note is not None:
                    return note
        return None

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise WitnessUnavailable(f"{self._name}: {self._path} is no plain file; name another")
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WitnessUnavailable(
                f"{self._name}: {self._path}: {error.strerror}; mount its storage, or correct the path or its mode"
            ) from None


def _write(descriptor: int, line: bytes) -> None:
    """Append a line durably; after one that a crash left unfinished, on a line of its own."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)


def _note_of(line: bytes, origin: str) -> bytes | None:
    """The note in a line, or None if the line is unfinished, damaged or of another origin."""
    try:
        content = json.loads(line)
        if content["origin"] != origin:
            return None
        note: bytes = content["note"].encode()
        return note if unverified_checkpoint(note).origin == origin else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
