"""Receipts: where the entry of a batch or a publish call is, sealed for those who audit, and of no meaning to its holder.

AES-256-GCM-SIV (RFC 8452) over a fixed layout, as with cursors: all are of one length, two are never equal, and one holder's
does not open as another's. What it seals names the entry by hash, so that an entry that is missing or was changed is
found, and carries the secret that shows, to who has the content, that the entry is about exactly this content.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from broker.core.merkle.hashing import HASH_BYTES
from broker.model.ledger import Place
from broker.ports.keys import Keys

RECEIPT_USE = "receipt"
INSTANCE_CHARACTERS = 32
"""The most that an instance's name may have; fixes a receipt's length."""

_LAYOUT = struct.Struct(f">B{INSTANCE_CHARACTERS}sQQ{HASH_BYTES}s{HASH_BYTES}s")
_NONCE_BYTES = 12
RECEIPT_BYTES = 1 + _NONCE_BYTES + _LAYOUT.size + 16


class ReceiptInvalid(ValueError):
    """Not a receipt of this exchange for this holder, or its key is gone; one line."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The place of an entry, and its secret (see `handed_out`), 32 bytes."""

    place: Place
    secret: bytes


class ReceiptCodec:
    """Seals and opens receipts with the exchange's receipt keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ciphers: dict[int, AESGCMSIV] = {}

    def seal(self, receipt: Receipt, agency: str, subject: str) -> bytes:
        """RECEIPT_BYTES fresh bytes for one holder."""
        key_id, key = self._keys.current(RECEIPT_USE)
        place = receipt.place
        name = place.instance.encode()
        if len(name) > INSTANCE_CHARACTERS:
            raise ValueError("an instance's name is longer than a receipt can hold")
        plain = _LAYOUT.pack(len(name), name, place.epoch, place.index, place.leaf_hash, receipt.secret)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(key_id, key).encrypt(nonce, plain, _holder(agency, subject))
        return bytes([key_id]) + nonce + sealed

    def open(self, sealed: bytes, agency: str, subject: str) -> Receipt:
        """Raises ReceiptInvalid."""
        key = self._keys.by_id(RECEIPT_USE, sealed[0]) if len(sealed) == RECEIPT_BYTES else None
        if key is None:
            raise ReceiptInvalid("the receipt is of another length or under a key that is not here")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            plain = self._cipher(sealed[0], key).decrypt(nonce, body, _holder(agency, subject))
        except InvalidTag:
            raise ReceiptInvalid("the receipt is not this exchange's for this agency and subject") from None
        length, name, epoch, index, leaf_hash, secret = _LAYOUT.unpack(plain)
        return Receipt(Place(name[:length].decode(), epoch, index, leaf_hash), secret)

    def _cipher(self, key_id: int, key: bytes) -> AESGCMSIV:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCMSIV(key)
        return cipher


@lru_cache(maxsize=4_096)
def _holder(agency: str, subject: str) -> bytes:
    """32 bytes; each part is length-prefixed, so that no two holders share them."""
    digest = hashlib.sha256(b"entente receipt v1")
    for part in (agency.encode(), subject.encode()):
        digest.update(struct.pack(">I", len(part)) + part)
    return digest.digest()
