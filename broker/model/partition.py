"""Which partition a key belongs to, the same as with every Kafka client library.

Apache Kafka's default partitioner: `toPositive(murmur2(key)) % partitions`, MurmurHash2 (32 bit) with Kafka's seed.
"""

from __future__ import annotations

import struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF


def partition_for(key: bytes, partitions: int) -> int:
    """The partition (0 … partitions - 1) of a record with this key; `partitions` is at least 1."""
    return (murmur2(key) & _POSITIVE) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 as Kafka computes it, unsigned (0 … 2**32 - 1)."""
    length = len(data)
    words = length // 4
    value = _SEED ^ length
    for word in struct.unpack_from(f"<{words}I", data):
        word = (word * _M) & _WORD
        word = ((word ^ (word >> 24)) * _M) & _WORD
        value = ((value * _M) & _WORD) ^ word
    tail = data[words * 4 :]
    if tail:
        value = ((value ^ int.from_bytes(tail, "little")) * _M) & _WORD
    value = ((value ^ (value >> 13)) * _M) & _WORD
    return value ^ (value >> 15)
