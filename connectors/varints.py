"""Numbers as Protocol Buffers and Kafka's records write them."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=8_192)
def varint(number: int) -> bytes:
    """Of a number from 0 on: seven bits a byte, the lowest first (Protocol Buffers encoding, base 128 varints)."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
