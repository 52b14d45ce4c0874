"""A record as an agency has it, before it is made into what the exchange takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

_ID_HEX_DIGITS = 40
_NOWHERE: Mapping[str, str] = MappingProxyType({})


class Unmappable(Exception):
    """A record of which the mapping makes nothing that may be sent.

    cause: one line that begins with a reason in capitals: the mapping's key and what is missing, never the content.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class AgencyRecord(NamedTuple):
    """One record of an agency's own system: a Kafka record, a file, or a line of one.

    value: None for a Kafka tombstone. headers: in order; a name may come twice. timestamp_ms: of the Unix epoch, None if
    the record has none. origin: where it comes from, for people and for its id, for example {"cluster", "topic",
    "partition", "offset"} or {"file", "line"}. incarnation: what tells it from another record that had the same origin
    before, for example the id of a topic that was made anew; goes into the id and is never shown.
    """

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp_ms: int | None = None
    origin: Mapping[str, str] = _NOWHERE
    incarnation: str = ""


def stable_id(record: AgencyRecord) -> str:
    """The same for the same origin and incarnation whenever it is read, and no other's: 40 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (*(part for item in sorted(record.origin.items()) for part in item), record.incarnation):
        encoded = part.encode("utf-8", "surrogateescape")
        # Lengths go in, so that no two lists of parts are the same bytes.
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()[:_ID_HEX_DIGITS]
