"""The hashes of RFC 6962 §2.1: SHA-256, with a prefix that tells leaves from nodes."""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 32

EMPTY_ROOT = sha256().digest()
"""MTH({}): the root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: list[bytes]) -> bytes:
    """The root over leaf hashes in order (MTH). Level by level: an odd node moves up, which gives RFC 6962's shape."""
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > 1:
        pairs = iter(level)
        paired = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
