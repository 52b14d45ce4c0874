"""Cursors and receipts of places: opaque, of fixed length, freshly encrypted, bound to their holder.

AES-256-GCM-SIV (RFC 8452): a repeated random nonce would not break it. The plain text has a fixed layout, so nothing about
the position shows in the length; what it is bound to is hashed into the associated data, so another principal's, topic's or
subscription's cursor does not open.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from broker.errors import EntenteError, Reason
from broker.model.record import Positions
from broker.ports.keys import Keys

MAX_PARTITIONS = 32
"""Most partitions that a topic may have; fixes a cursor's length."""

_LAYOUT = struct.Struct(f">QB{MAX_PARTITIONS}Q")
_NONCE_BYTES = 12
CURSOR_BYTES = 1 + _NONCE_BYTES + _LAYOUT.size + 16


@dataclass(frozen=True, slots=True)
class CursorBinding:
    """What a cursor is good for: one principal, one topic's incarnation, one subscription ("" for unnamed)."""

    agency: str
    subject: str
    incarnation: bytes
    subscription: str = ""

    def associated_data(self) -> bytes:
        """32 bytes; each part is length-prefixed, so that no two bindings share them."""
        digest = hashlib.sha256(b"entente cursor v1")
        for part in (
            self.agency.encode(),
            self.subject.encode(),
            self.incarnation,
            self.subscription.encode(),
        ):
            digest.update(struct.pack(">I", len(part)) + part)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position and the epoch of the subscription under which it was handed out (0 for unnamed)."""

    positions: Positions
    epoch: int


class CursorCodec:
    """Seals and opens cursors with the exchange's cursor keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ciphers: dict[int, AESGCMSIV] = {}

    def seal(self, cursor: Cursor, associated_data: bytes) -> bytes:
        """CURSOR_BYTES fresh bytes; two are never equal."""
        return self.seal_all([cursor.positions], cursor.epoch, associated_data)[0]

    def seal_all(self, cursors: Sequence[Positions], epoch: int, associated_data: bytes) -> list[bytes]:
        """As `seal`, of several positions under one epoch; raises ValueError for more than MAX_PARTITIONS."""
        key_id, key = self._keys.current("cursor")
        encrypt, head = self._cipher(key_id, key).encrypt, bytes([key_id])
        nonces = os.urandom(_NONCE_BYTES * len(cursors))
        sealed = []
        for begin, positions in zip(count(0, _NONCE_BYTES), cursors, strict=False):
            if len(positions) > MAX_PARTITIONS:
                raise ValueError("a cursor has no room for so many partitions")
            nonce = nonces[begin : begin + _NONCE_BYTES]
            plain = struct.pack(f">QB{len(positions)}Q", epoch, len(positions), *positions)
            sealed.append(head + nonce + encrypt(nonce, plain.ljust(_LAYOUT.size, b"\0"), associated_data))
        return sealed

    def open(self, sealed: bytes, associated_data: bytes, partitions: int) -> Cursor:
        """The cursor; raises EntenteError CURSOR_INVALID for anything that was not sealed for this binding."""
        key = self._keys.by_id("cursor", sealed[0]) if len(sealed) == CURSOR_BYTES else None
        if key is None:
            raise EntenteError(Reason.CURSOR_INVALID)
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            plain = self._cipher(sealed[0], key).decrypt(nonce, body, associated_data)
        except InvalidTag:
            raise EntenteError(Reason.CURSOR_INVALID) from None
        epoch, count, *positions = _LAYOUT.unpack(plain)
        if count != partitions:
            raise EntenteError(Reason.CURSOR_INVALID)
        return Cursor(tuple(positions[:count]), epoch)

    def _cipher(self, key_id: int, key: bytes) -> AESGCMSIV:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCMSIV(key)
        return cipher
