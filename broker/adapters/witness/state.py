"""A cosigning witness's memory in a directory: one file an origin, and evidence of what did not fit.

A file is replaced by renaming a finished and synced one over it, so that whatever moment the process is killed at, the
old or the new checkpoint is there whole (rename(2), fsync(2)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from broker.core.checkpoint.note import MAX_NOTE_BYTES
from broker.errors import StorageUnavailable
from broker.ports.witness_store import Misfit

MAX_MISFITS = 100
"""How many of one kind are kept for one origin: anybody may send the same checkpoints with made-up proofs."""

MAX_NAME_BYTES = 200
"""The longest origin, in its file name's spelling."""


def file_name(origin: str) -> str:
    """The origin as the beginning of a file name. Raises ValueError for one that is too long for that."""
    name = quote(origin, safe="")
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(
            f"an origin has at most {MAX_NAME_BYTES} characters, each special one counted threefold"
        )
    return name


class FileWitnessStore:
    """Implements WitnessStore. Reading needs no lock, so it may be done beside a running witness."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: int | None = None

    def open_for_writing(self) -> None:
        """Make the directory if it is absent, private, and take it for this process. Raises StorageUnavailable."""
        with self._reported():
            (self._directory / "evidence").mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise StorageUnavailable(
                    f"{self._directory} is in use by another witness; stop it, or give each its own directory"
                ) from None
            self._lock = descriptor
            _sync(self._directory)

    def held(self, origin: str) -> bytes | None:
        """See WitnessStore."""
        with self._reported():
            try:
                with self._place(origin).open("rb") as file:
                    return file.read(MAX_NOTE_BYTES + 1)
            except FileNotFoundError:
                return None

    def held_since_ms(self, origin: str) -> int | None:
        """When the checkpoint that is held was kept, in ms since 1970, or None."""
        with self._reported(), contextlib.suppress(FileNotFoundError):
            return self._place(origin).stat().st_mtime_ns // 1_000_000
        return None

    def keep(self, origin: str, note: bytes) -> None:
        """See WitnessStore."""
        with self._reported():
            self._replace(self._place(origin), note)

    def record(self, misfit: Misfit) -> bool:
        """See WitnessStore: a JSON file in evidence/, named by origin, kind and the offered note's hash."""
        with self._reported():
            place = self._evidence(
                misfit.origin, misfit.kind, hashlib.sha256(misfit.offered).hexdigest()[:16]
            )
            if place.exists() or self._count(misfit.origin, misfit.kind) >= MAX_MISFITS:
                return False
            self._replace(place, _encode(misfit))
        return True

    def misfits(self, origin: str) -> int:
        """How many pieces of evidence there are for an origin."""
        with self._reported():
            return self._count(origin, "fork") + self._count(origin, "unproven")

    def close(self) -> None:
        """Give the directory back; idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _place(self, origin: str) -> Path:
        return self._directory / f"{file_name(origin)}.checkpoint"

    def _evidence(self, origin: str, kind: str, digest: str) -> Path:
        return self._directory / "evidence" / f"{file_name(origin)}.{kind}.{digest}.json"

    def _count(self, origin: str, kind: str) -> int:
        begin = f"{file_name(origin)}.{kind}."
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory / "evidence") as found:
            return sum(each.name.startswith(begin) for each in found)
        return 0

    def _replace(self, place: Path, content: bytes) -> None:
        # The name is the origin's own: one thread at a time writes it, and what a killed process left is overwritten.
        building = place.with_name(f".{place.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(building, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        building.rename(place)
        _sync(place.parent)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = error.strerror or errno.errorcode.get(error.errno or 0, "unknown")
            raise StorageUnavailable(
                f"{error.filename or self._directory}: {what}; correct the disk or the file's mode"
            ) from error


def _encode(misfit: Misfit) -> bytes:
    content = {
        "kind": misfit.kind,
        "origin": misfit.origin,
        "time_ms": misfit.time_ms,
        "held": misfit.held.decode(),
        "offered": misfit.offered.decode(),
        "old_size": misfit.old_size,
        "proof": [node.hex() for node in misfit.proof],
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
