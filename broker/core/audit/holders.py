"""Receipts that their holders bring back: whether the entry is there, and their own part of it with its proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from broker.core.audit.proofs import Part, PublisherPart, ReceiverPart, prove
from broker.core.audit.reading import read_entry
from broker.core.audit.readings import Readings
from broker.core.ledger.handed_out import item_keys
from broker.core.ledger.leaf import open_entry
from broker.core.ledger.receipt import Receipt, ReceiptCodec, ReceiptInvalid
from broker.core.ledger.runs import places_of
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue, LedgerEntry, Place
from broker.model.principal import Principal
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader

ANSWER_BYTES = 48 << 20
"""The most that one answer may take: an acknowledgement's part has all rows of the call."""


class Standing(Enum):
    """Whether a receipt's entry is in the ledger; see entente.v1.ReceiptStanding."""

    LOGGED = "logged"
    PENDING = "pending"
    NOT_LOGGED = "not logged"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """What the ledger says to one receipt; see entente.v1.CheckedReceipt."""

    standing: Standing
    place: Place | None = None
    proofs: tuple[bytes, ...] = ()
    digest_keys: tuple[bytes, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About what it takes in an answer."""
        return sum(map(len, (*self.proofs, *self.digest_keys)))


class HolderDesk:
    """Shows holders nothing but what is their own; raises EntenteError: see Ledger.CheckReceipts."""

    def __init__(self, readings: Readings, receipts: ReceiptCodec) -> None:
        self._readings = readings
        self._receipts = receipts

    async def check(self, principal: Principal, receipts: Sequence[bytes]) -> list[CheckedReceipt]:
        """One answer for each receipt, in order."""
        opened = [self._open(principal, sealed) for sealed in receipts]
        await self._readings.account(principal, "CheckReceipts", {"receipts": len(receipts)})
        answers: list[CheckedReceipt] = []
        async with self._readings.unrestricted() as (reader, index):
            for receipt in opened:
                answers.append(await _checked(reader, index, principal, receipt))
                if sum(answer.size_bytes for answer in answers) > ANSWER_BYTES:
                    raise EntenteError(Reason.LIMIT_EXCEEDED, f"{ANSWER_BYTES} bytes in one answer")
        return answers

    def _open(self, principal: Principal, sealed: bytes) -> Receipt | None:
        """None if it is not the principal's."""
        try:
            return self._receipts.open(sealed, principal.agency, principal.subject)
        except ReceiptInvalid:
            return None


async def _checked(
    reader: LedgerReader, index: AuditIndex, principal: Principal, receipt: Receipt | None
) -> CheckedReceipt:
    if receipt is None:
        return CheckedReceipt(Standing.UNKNOWN)
    place = receipt.place
    row = await index.entry(place.instance, place.index)
    if row is None:
        covered = {c.instance: c.begin for c in await index.coverage()}
        expired = place.index < covered.get(place.instance, 0)
        return CheckedReceipt(Standing.EXPIRED if expired else Standing.NOT_LOGGED, place)
    if row.leaf_hash != place.leaf_hash:
        return CheckedReceipt(Standing.NOT_LOGGED, place)
    if await index.checkpoint_covering(place.instance, place.index) is None:
        return CheckedReceipt(Standing.PENDING, place)
    _, entry = open_entry(await read_entry(reader, index, place.instance, place.index))
    proofs = [
        await prove(reader, index, place.instance, place.index, part) for part in _own_parts(principal, entry)
    ]
    return CheckedReceipt(Standing.LOGGED, place, tuple(proofs), _digest_keys(receipt, entry))


def _own_parts(principal: Principal, entry: LedgerEntry) -> list[Part]:
    """A receipt opens for its holder only, so the entry is about the holder; of a delivery, among others."""
    if entry.kind == "publish" and entry.body:
        return [PublisherPart()]
    parts: list[Part] = []
    for item in _items(entry, "receivers"):
        match item:
            case {"subject": principal.subject, "subscription": str(name), "stream": str(stream)}:
                parts.append(ReceiverPart(principal.subject, name, stream))
    return parts


def _digest_keys(receipt: Receipt, entry: LedgerEntry) -> tuple[bytes, ...]:
    """The key of each row or delivery, which are the holder's own; nothing of where they were stored lies under them."""
    rows = _items(entry, "records") if entry.kind == "publish" else places_of(_items(entry, "places"))
    return tuple(item_keys(receipt.secret, len(rows)))


def _items(entry: LedgerEntry, name: str) -> list[JsonValue]:
    value = entry.body.get(name)
    return value if isinstance(value, list) else []
