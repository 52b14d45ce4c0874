"""What the log holds already: record identity -> digest and place, of the newest records of one topic.

About 200 bytes of memory for each entry. Beyond `limit` entries the oldest are forgotten: a record published again
after that many others is stored again.

The remaining race: two instances that are handed the same new record within the time that it takes one's record to
reach the other's tail (milliseconds) both store it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PLACE = struct.Struct(">IQ")


@dataclass(frozen=True, slots=True)
class Known:
    """A stored record: digest of its content (16 bytes) and its first place."""

    digest: bytes
    partition: int
    offset: int


class DuplicatesIndex:
    """Identities (16 bytes) in the order in which they were learned."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, identity: bytes) -> Known | None:
        """What is known of this identity, or None."""
        entry = self._entries.get(identity)
        if entry is None:
            return None
        partition, offset = _PLACE.unpack_from(entry, 16)
        return Known(entry[:16], partition, offset)

    def add(self, identity: bytes, digest: bytes, partition: int, offset: int) -> None:
        """Remember a stored record; what is known already stays, since the first place counts."""
        if identity in self._entries:
            return
        self._entries[identity] = digest + _PLACE.pack(partition, offset)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def forget(self, identity: bytes) -> None:
        """Drop an identity whose record has passed out of retention."""
        self._entries.pop(identity, None)
