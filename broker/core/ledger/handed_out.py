"""What a batch's entry says of the bytes that were handed out: a Merkle root over salted hashes of exactly those.

Item i is RFC 6962's leaf hash over `k_i || SHA-256(delivery_i)`; k_i is a key of its own. The keys come from a secret that
the ledger does not hold (it is derived from the exchange's digest key and the entry's nonce), so nobody can guess a short
payload from the ledger; the batch's receipt carries the secret to those who have the payload anyway. Where item i was
stored is the i-th of the part `places`, of which nothing goes in here: who can open an item learns nothing of its place.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256, shake_256

from broker.core.merkle.hashing import HASH_BYTES, root_of

NONCE_BYTES = 16

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


def handed_out_root(secret: bytes, contents: Sequence[bytes]) -> bytes:
    """The root over all items of a batch, in order; contents: SHA-256 of each serialised `Delivery`."""
    return root_under(item_keys(secret, len(contents)), contents)


def root_under(keys: Sequence[bytes], contents: Sequence[bytes]) -> bytes:
    """As `handed_out_root`, for who was given the items' keys; raises ValueError unless there are as many of them."""
    return root_of(
        [sha256(b"\0" + key + content).digest() for key, content in zip(keys, contents, strict=True)]
    )


def content_digest(key: bytes, content: bytes) -> bytes:
    """The salted digest of a published record: SHA-256 over its item key and its content's digest."""
    return sha256(key + content).digest()
