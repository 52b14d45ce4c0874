"""Receipts against the ledger: what was released, or accepted, without an entry that says so."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from broker.core.audit.findings import Findings
from broker.core.audit.opening import Cache, Opened, open_entry
from broker.core.audit.pieces import PieceReader
from broker.core.audit.reading import EntryReader
from broker.core.ledger.handed_out import content_digest, handed_out_root, item_keys
from broker.core.ledger.leaf import EntryInvalid
from broker.core.ledger.runs import places_of
from broker.errors import LedgerRefused
from broker.model.audit import Finding, Progress, ProgressCallback
from broker.model.ledger import Place
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


class OpenedReceipt(Protocol):
    """What a receipt holds: the entry's place and the secret of what was handed out or published (32 bytes)."""

    @property
    def place(self) -> Place:
        """Where the entry is."""

    @property
    def secret(self) -> bytes:
        """See broker.core.ledger.handed_out."""


OpenReceipt = Callable[[bytes, str, str], OpenedReceipt | None]
"""Opens a sealed receipt of an agency's subject; None if it is not one of the exchange's for this holder."""


@dataclass(frozen=True, slots=True)
class ReceiptsChecked:
    """checked: lines read; sound: those whose entry says what they say. findings name the line as `line N`."""

    checked: int
    sound: int
    findings: tuple[Finding, ...]


async def check_receipts(
    lines: AsyncIterable[bytes],
    reader: LedgerReader,
    index: AuditIndex,
    open_receipt: OpenReceipt,
    progress: ProgressCallback | None = None,
) -> ReceiptsChecked:
    """Compare each line of a receipts file with the entry that its receipt names. Raises StorageUnavailable."""
    work = _Check(reader, index, open_receipt)
    checked = sound = 0
    async for line in lines:
        checked += 1
        sound += await work.check(checked, line)
        if progress is not None and checked % _TELL_EVERY == 0:
            progress(Progress("checking receipts", checked))
    return ReceiptsChecked(checked, sound, tuple(work.findings.kept))


_TELL_EVERY = 100
EXPLAIN = "ask the operator to explain it, and keep the receipt"


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One line of a receipts file. contents: hashes of deliveries, or of each published record source, id and digest."""

    agency: str
    subject: str
    kind: str
    topic: str
    receipt: bytes
    contents: list[Any]

    @classmethod
    def read(cls, line: bytes) -> ReceiptLine:
        """Raises ValueError."""
        try:
            content = orjson.loads(line)
            sealed = base64.b64decode(content["receipt"], validate=True)
            agency, subject, kind, topic = (content[name] for name in ("agency", "subject", "kind", "topic"))
            read = cls(agency, subject, kind, topic, sealed, content["contents"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("it is no line of a receipts file") from error
        texts = (read.agency, read.subject, read.topic)
        if read.kind not in ("delivery", "publish") or not isinstance(read.contents, list):
            raise ValueError("it is no line of a receipts file")
        if any(type(text) is not str for text in texts):
            raise ValueError("it is no line of a receipts file")
        return read


class Unsound(Exception):
    """What a receipt and its entry differ in."""


class _Check:
    def __init__(self, reader: LedgerReader, index: AuditIndex, open_receipt: OpenReceipt) -> None:
        self.findings = Findings()
        self._reader = reader
        self._index = index
        self._entries = EntryReader(reader, index)
        self._open_receipt = open_receipt
        self._cache = Cache()

    async def check(self, number: int, content: bytes) -> bool:
        """Whether the line is sound; else a finding says why."""
        at = f"line {number}"
        try:
            line = ReceiptLine.read(content)
        except ValueError as error:
            self.findings.fault("", None, f"{at}: {error}", "take the file from the client again")
            return False
        receipt = self._open_receipt(line.receipt, line.agency, line.subject)
        if receipt is None:
            what = f"{at}: the receipt does not open: it is none of this exchange for this agency and subject"
            self.findings.fault("", None, what, "check the keys, and who holds the receipt")
            return False
        try:
            return await self._compare(at, line, receipt)
        except (Unsound, LedgerRefused, EntryInvalid) as error:
            place = receipt.place
            self.findings.fault(place.instance, place.index, f"{at}: {error}", EXPLAIN)
            return False

    async def _compare(self, at: str, line: ReceiptLine, receipt: OpenedReceipt) -> bool:
        place = receipt.place
        row = await self._index.entry(place.instance, place.index)
        if row is None:
            return await self._missing(at, place)
        if row.leaf_hash != place.leaf_hash:
            raise Unsound(f"the entry of this {line.kind} was changed, or another was logged in its place")
        encoded = await self._entries.read(place.instance, place.index)
        entry = open_entry(encoded.leaf, encoded.openings, self._cache)
        if entry.kind != line.kind:
            raise Unsound(f"the receipt is of a {entry.kind} entry and not of a {line.kind} entry")
        if entry.taken is None:
            what = f"{at}: the entry is there, and its openings were erased: what it said cannot be compared"
            self.findings.remark(place.instance, place.index, what, "find out who erased them, and why")
            return False
        (_compare_delivery if line.kind == "delivery" else _compare_publish)(line, receipt.secret, entry)
        return True

    async def _missing(self, at: str, place: Place) -> bool:
        """The entry is not here: it was never logged, or it lies outside of what was exported or is kept."""
        covered = {each.instance: each for each in await self._index.coverage()}.get(place.instance)
        cut = (
            isinstance(self._reader, PieceReader)
            and covered is not None
            and self._reader.is_cut(place.instance)
        )
        if covered is not None and (place.index < covered.begin or cut):
            what = f"{at}: its entry lies outside of what was exported or is kept"
            self.findings.remark(place.instance, place.index, what, "check it against the whole ledger")
            return False
        raise Unsound("it was never logged: the ledger has no such entry")


def _compare_delivery(line: ReceiptLine, secret: bytes, entry: Opened) -> None:
    group = entry.value("class")
    subjects = [row["subject"] for row in entry.value("receivers")]
    if (group["agency"], group["topic"]) != (line.agency, line.topic) or line.subject not in subjects:
        raise Unsound("the entry does not name the receipt's holder and topic")
    contents = hashes_of(line, len(places_of(entry.value("places"))))
    if handed_out_root(secret, contents).hex() != entry.commitments["handed_out"]:
        raise Unsound("what was received is not what was logged as handed out")


def hashes_of(line: ReceiptLine, logged: int) -> list[bytes]:
    """The hashes of the deliveries that a line is about. Raises Unsound unless there are as many as were logged."""
    try:
        contents = [bytes.fromhex(content) for content in line.contents]
    except (ValueError, TypeError):
        raise Unsound("the line's contents are no hashes") from None
    if len(contents) != logged:
        raise Unsound(f"{len(contents)} records were received, and {logged} were logged")
    return contents


def _compare_publish(line: ReceiptLine, secret: bytes, entry: Opened) -> None:
    rows = entry.value("records")
    compare_rows(line, entry.value("who"), entry.value("call"), rows, item_keys(secret, len(rows)))


def compare_rows(line: ReceiptLine, who: Any, call: Any, rows: Sequence[Any], keys: Sequence[bytes]) -> None:
    """Hold a publisher's line against the rows of its call and the keys of their digests. Raises Unsound."""
    if (who["agency"], who["subject"], call["topic"]) != (line.agency, line.subject, line.topic):
        raise Unsound("the entry does not name the receipt's holder and topic")
    digests = {
        (row.get("source"), row.get("id"), key): row.get("digest")
        for key, row in zip(keys, rows, strict=True)
        if "digest" in row
    }
    named: dict[tuple[object, object], list[bytes]] = {}
    for source, name, key in digests:
        named.setdefault((source, name), []).append(key)
    for content in line.contents:
        try:
            source, name, digest = content
            unsalted = bytes.fromhex(digest)
        except (ValueError, TypeError):
            raise Unsound("the line's contents are not source, id and digest") from None
        keys_of = named.get((source, name), [])
        if not any(digests[source, name, key] == content_digest(key, unsalted).hex() for key in keys_of):
            raise Unsound(f"the record {str(name)[:80]!r} was accepted, and not logged as it was published")
