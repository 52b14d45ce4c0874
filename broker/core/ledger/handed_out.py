"""What a batch's entry says of the bytes that were handed out: a Merkle root over salted hashes of exactly those.

Item i is RFC 6962's leaf hash over `SHA-256(k_i || place_i) || SHA-256(delivery_i)`; k_i is a key of its own and place_i its
partition, offset and decision number. The keys come from a secret that the ledger does not hold (it is derived from the
exchange's digest key and the entry's nonce), so nobody can guess a short payload from the ledger; the batch's receipt
carries the secret to those who have the payload anyway.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from hashlib import sha256, shake_256

from broker.core.merkle.hashing import HASH_BYTES, leaf_hash, root_of

NONCE_BYTES = 16

_PLACE = struct.Struct(">IQI")
_SECRET = b"entente handed out v1\0"
_KEYS = b"entente item keys v1\0"

ItemPlace = tuple[int, int, int]
"""Partition, offset, and the number of its decision in the entry."""


def derive_secret(digest_key: bytes, nonce: bytes) -> bytes:
    """The secret of one entry, 32 bytes."""
    return hmac.digest(digest_key, _SECRET + nonce, "sha256")


def item_keys(secret: bytes, count: int) -> list[bytes]:
    """One key of 32 bytes for each item."""
    stream = shake_256(_KEYS + secret).digest(HASH_BYTES * count)
    return [stream[begin : begin + HASH_BYTES] for begin in range(0, len(stream), HASH_BYTES)]


def blind(key: bytes, place: ItemPlace) -> bytes:
    """What hides an item's place from those who may know its content only, 32 bytes."""
    return sha256(key + _PLACE.pack(*place)).digest()


def item_hash(blinded: bytes, content: bytes) -> bytes:
    """The leaf hash of one item; content: SHA-256 of the serialised `Delivery`."""
    return leaf_hash(blinded + content)


def handed_out_root(secret: bytes, places: Sequence[ItemPlace], contents: Sequence[bytes]) -> bytes:
    """The root over all items of a batch, in order."""
    keys = item_keys(secret, len(places))
    return root_of(
        [
            item_hash(blind(key, place), content)
            for key, place, content in zip(keys, places, contents, strict=True)
        ]
    )


def content_digest(key: bytes, content: bytes) -> bytes:
    """The salted digest of a published record: SHA-256 over its item key and its content's digest."""
    return sha256(key + content).digest()
