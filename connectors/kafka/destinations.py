"""To which topic and partition a record goes."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from functools import lru_cache
from string import Formatter

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NOT_TAKEN = re.compile(r"[^A-Za-z0-9._-]")
_FIELDS = frozenset({"topic", "type", "source_agency"})
_SOURCE_AGENCY = re.compile(r"//([a-z0-9][a-z0-9-]*)/")


class NoDestination(Exception):
    """A record for which the template makes no topic that it may be written to."""


def check_name(name: str) -> str:
    """The name, if Kafka takes it for a topic. Raises ValueError."""
    if _NAME.fullmatch(name) is None or name in {".", ".."} or name.startswith("__"):
        raise ValueError("a topic's name is 1 to 249 letters, digits, '.', '_' and '-', without '__' first")
    return name


@lru_cache(maxsize=1_024)
def agency_of(source: str) -> str:
    """The agency that a record's source names; the exchange has checked it. "" for any other source."""
    found = _SOURCE_AGENCY.match(source)
    return found.group(1) if found else ""


class Destinations:
    """The topic of each record, by a template. What Kafka does not take in a name becomes "-"."""

    def __init__(self, template: str, reserved: Collection[str]) -> None:
        """reserved: topics of the connector's own, in which a record would pass for something else.

        Raises ValueError for a template that is none.
        """
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise ValueError("braces are not closed; write for example exchange.{topic}") from None
        unknown = sorted(
            {f"{{{part[1]}}}" for part in parts if part[1] is not None and part[1] not in _FIELDS}
        )
        if unknown or any(part[2] or part[3] for part in parts):
            raise ValueError(
                f"knows {{topic}}, {{type}} and {{source_agency}} only; remove {', '.join(unknown)}"
            )
        check_name("".join(literal + ("x" if field else "") for literal, field, _, _ in parts))
        self._template = template
        self._reserved = frozenset(reserved)
        self._made: dict[tuple[str, str, str], str] = {}

    def topic_for(self, topic: str, type: str, agency: str) -> str:
        """Raises NoDestination; its text names no content."""
        known = self._made.get((topic, type, agency))
        return known if known is not None else self._make(topic, type, agency)

    def _make(self, topic: str, type: str, agency: str) -> str:
        filled = self._template.format(topic=topic, type=type, source_agency=agency)
        name = _NOT_TAKEN.sub("-", filled)
        try:
            check_name(name)
        except ValueError:
            raise NoDestination("the topic's name would be empty, too long or Kafka's own") from None
        if name in self._reserved:
            raise NoDestination("the topic would be one that the connector keeps for itself")
        self._made[(topic, type, agency)] = name
        return name


_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_COMMON_BYTES = 16


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner chooses for a key: MurmurHash2, as in Java's Utils.murmur2."""
    length = len(key)
    # Keys begin with the source, which many have in common.
    h = _mixed(_mixed_seed(length, key[:_COMMON_BYTES]), key[_COMMON_BYTES:])
    if rest := key[length // 4 * 4 :]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return ((h ^ (h >> 15)) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=1_024)
def _mixed_seed(length: int, begin: bytes) -> int:
    return _mixed(0x9747B28C ^ length, begin)


def _mixed(h: int, content: bytes) -> int:
    """With each whole word of four bytes."""
    for k in struct.unpack_from(f"<{len(content) // 4}I", content):
        k = k * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    return h
