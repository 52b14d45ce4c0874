"""Receipts kept in a file: what was received and what was published, to be held against the exchange's ledger later.

One JSON object a line: `agency`, `subject`, `kind` ("delivery" or "publish"), `topic`, `receipt` (base64), `contents`. The
contents of a delivery are the SHA-256 (hexadecimal) of each serialised Delivery, in order; those of a publication are
[source, id, digest] for each accepted record. No content is in the file. `entente audit check-receipts` reads it.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Protocol

from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_DIGEST_BYTES = 16


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

    A receipt that is missing is kept as an empty one: then the exchange has delivered without saying where it says so.
    """

    def __init__(self, path: Path, topic: str, identify: Callable[[], Awaitable[Holder]]) -> None:
        self._path = path
        self._topic = topic
        self._identify = identify
        self._file: FileIO | None = None
        self._holder = ("", "")

    async def open(self) -> None:
        """Open or create the file, and ask who the caller is. Raises OSError, and what identifying raises."""
        if self._file is None:
            holder = await self._identify()
            self._holder = (holder.agency, holder.subject)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file = FileIO(descriptor, "a")

    def add_batch(self, batch: pb.Batch) -> None:
        """Keep what was received. Raises OSError."""
        self._add("delivery", batch.receipt, [delivery_digest(each).hex() for each in batch.deliveries])

    def add_published(self, records: Sequence[CloudEvent], outcomes: Sequence[Published]) -> None:
        """Keep what was accepted: a line for each receipt, which nearly always is one. Raises OSError."""
        contents: dict[bytes, list[list[str]]] = {}
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome.receipt is not None:
                row = [record.source, record.id, record_digest(record).hex()]
                contents.setdefault(outcome.receipt, []).append(row)
        for receipt, rows in contents.items():
            self._add("publish", receipt, rows)

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, kind: str, receipt: bytes, contents: Sequence[str | list[str]]) -> None:
        agency, subject = self._holder
        line = {
            "agency": agency,
            "subject": subject,
            "kind": kind,
            "topic": self._topic,
            "receipt": base64.b64encode(receipt).decode(),
            "contents": contents,
        }
        if self._file is None:
            raise RuntimeError("a file of receipts is written to while it is open")
        left = memoryview(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None


def delivery_digest(delivery: pb.Delivery) -> bytes:
    """SHA-256 of the delivery as the exchange serialised it: fields in order, maps by key."""
    return sha256(delivery.SerializeToString(deterministic=True)).digest()


def record_digest(record: CloudEvent) -> bytes:
    """16 bytes over a record as it is published, by which the exchange tells equal records from others."""
    bare = CloudEvent()
    bare.CopyFrom(record)
    bare.DiscardUnknownFields()
    return sha256(bare.SerializeToString(deterministic=True)).digest()[:_DIGEST_BYTES]
