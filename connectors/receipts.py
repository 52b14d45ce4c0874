"""Receipts kept in a file: what was received and what was published, to be held against the exchange's ledger later.

One JSON object a line: `agency`, `subject`, `kind` ("delivery" or "publish"), `topic`, `receipt` (base64), `contents`. The
contents of a delivery are the SHA-256 (hexadecimal) of each serialised Delivery, in order; those of a publication are
[source, id, digest] for each accepted record. No content is in the file. `entente audit check-receipts` reads it.
"""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Protocol

from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_DIGEST_BYTES = 16
_CHUNK_BYTES = 64 * 1024
_BEGIN = b'{"agency":'
"""Of each line; only such a one is taken back."""


class Published(Protocol):
    """What became of a record: `receipt` is None if it was refused."""

    @property
    def receipt(self) -> bytes | None:
        """Opaque."""


class Holder(Protocol):
    """The caller as the exchange accepted it."""

    @property
    def agency(self) -> str:
        """Its agency."""

    @property
    def subject(self) -> str:
        """Its subject id."""


class ReceiptFile:
    """Appends to a file that only its owner may read; each line is written before what it is about is handed on.

    A line that could not be finished, for want of room or because the process was killed, is taken back: nothing was
    handed on then.
    """

    def __init__(
        self, path: Path, identify: Callable[[], Awaitable[Holder]], *, most_bytes: int | None = None
    ) -> None:
        """most_bytes: what it and the file before it, with ".1" behind the name, may take together; None: no bound."""
        self._path = path
        self._identify = identify
        self._most_bytes = most_bytes
        self._file: FileIO | None = None
        self._size_bytes = 0
        self._holder = ("", "")

    async def open(self) -> None:
        """Open or create the file, and ask who the caller is. Raises OSError, and what identifying raises."""
        if self._file is None:
            holder = await self._identify()
            self._holder = (holder.agency, holder.subject)
        if self._file is None:  # also for those who asked meanwhile
            self._open()

    def add(self, kind: str, topic: str, receipt: bytes, contents: Sequence[str | list[str]]) -> None:
        """One line. Raises OSError."""
        agency, subject = self._holder
        line = {
            "agency": agency,
            "subject": subject,
            "kind": kind,
            "topic": topic,
            "receipt": base64.b64encode(receipt).decode(),
            "contents": contents,
        }
        written = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._make_room(len(written))
            self._write(written)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = self._file = FileIO(os.open(self._path, flags, 0o600), "a+")
        self._size_bytes = _end_of_lines(file)
        if self._size_bytes < os.fstat(file.fileno()).st_size:
            torn = os.pread(file.fileno(), len(_BEGIN), self._size_bytes)
            if torn != _BEGIN[: len(torn)]:
                self.close()
                what = "holds something else than receipts; name another file"
                raise OSError(errno.EINVAL, what, str(self._path))
            file.truncate(self._size_bytes)

    def _make_room(self, size_bytes: int) -> None:
        if self._most_bytes is None or self._size_bytes == 0:
            return
        if self._size_bytes + size_bytes > self._most_bytes / 2:
            self.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise RuntimeError("a file of receipts is written to while it is open")
        left = memoryview(line)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._size_bytes)
            raise
        self._size_bytes += len(line)


class TopicReceipts:
    """What is received from and published to one topic.

    A receipt that is missing is kept as an empty one: then the exchange has delivered without saying where it says so.
    """

    def __init__(self, file: ReceiptFile, topic: str, *, shared: bool = False) -> None:
        """shared: whether others use the file too, so that it stays open."""
        self._file = file
        self._topic = topic
        self._shared = shared

    async def open(self) -> None:
        """As ReceiptFile.open."""
        await self._file.open()

    def add_batch(self, batch: pb.Batch) -> None:
        """Keep what was received. Raises OSError."""
        contents = [delivery_digest(each).hex() for each in batch.deliveries]
        self._file.add("delivery", self._topic, batch.receipt, contents)

    def add_published(self, records: Sequence[CloudEvent], outcomes: Sequence[Published]) -> None:
        """Keep what was accepted: a line for each receipt, which nearly always is one. Raises OSError."""
        contents: dict[bytes, list[list[str]]] = {}
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome.receipt is not None:
                row = [record.source, record.id, record_digest(record).hex()]
                contents.setdefault(outcome.receipt, []).append(row)
        for receipt, rows in contents.items():
            self._file.add("publish", self._topic, receipt, rows)

    def close(self) -> None:
        """Idempotent."""
        if not self._shared:
            self._file.close()


def _end_of_lines(file: FileIO) -> int:
    """Where the last whole line ends, in bytes; 0 for what is no plain file."""
    end = os.fstat(file.fileno()).st_size
    while end:
        begin = max(0, end - _CHUNK_BYTES)
        found = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def delivery_digest(delivery: pb.Delivery) -> bytes:
    """SHA-256 of the delivery as the exchange serialised it: fields in order, maps by key."""
    return sha256(delivery.SerializeToString(deterministic=True)).digest()


def record_digest(record: CloudEvent) -> bytes:
    """16 bytes over a record as it is published, by which the exchange tells equal records from others."""
    bare = CloudEvent()
    bare.CopyFrom(record)
    bare.DiscardUnknownFields()
    return sha256(bare.SerializeToString(deterministic=True)).digest()[:_DIGEST_BYTES]
