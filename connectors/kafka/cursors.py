"""Where sinks have come to, kept in a compacted topic of the agency's cluster, and which process each belongs to.

Two keys for each connector: its identity, under which each transaction writes the exchange's cursor; and that with
" owner", under which a process that takes the connector over writes its instance. Both go to partition 0, so that what is
read up to the owner's record holds every cursor that was committed before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import TopicPartition

from connectors.delivery import Start
from connectors.kafka.connection import Cluster
from connectors.kafka.encoding import Outgoing
from connectors.kafka.topics import ensure_topic
from connectors.kafka.transactions import TRANSACTION_TIMEOUT_MS
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.places import decode_place, encode_place

_WINDOW = 1_000
_POLL_MS = 1_000
_ANSWER_MS = 15_000
_PATIENCE_S = TRANSACTION_TIMEOUT_MS / 1000 + 30
"""A dead process of another connector may hold back what is committed for as long as its transaction lives."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the topic holds of one connector.

    place: where to go on, a cursor or as somebody wished; None: never begun. portion: with which that was stored. owner:
    the instance that took the connector over last. damaged: whether something is kept that is no place.
    """

    place: Start | None = None
    portion: str = ""
    owner: str | None = None
    damaged: bool = False


class CursorTopic:
    """Reads and encodes what is kept of one connector. Reading blocks."""

    def __init__(self, cluster: Cluster, topic: str, identity: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._key = identity.encode()
        self._owner_key = f"{identity} owner".encode()

    def place(self, place: Start, portion: str = "") -> Outgoing:
        """The record that keeps a place, and with which portion it was stored."""
        return self._record(self._key, {"place": encode_place(place), "portion": portion})

    def claim(self, instance: str) -> Outgoing:
        """The record that says whose the connector is."""
        return self._record(self._owner_key, {"owner": instance})

    def prepare(self, *, create: bool) -> None:
        """See that the topic is there and keeps what it is given. Raises ConnectorFailed and KafkaError."""
        ensure_topic(self._cluster, self._topic, create=create, compacted=True)

    def read(self, upto: int | None = None) -> Kept:
        """What is kept, up to and including that offset, else to what is committed now.

        Raises ConnectorFailed and KafkaError.
        """
        place = TopicPartition(self._topic, 0)
        consumer = self._cluster.consumer(isolation_level="read_committed")
        try:
            consumer.assign([place])
            begin = consumer.beginning_offsets([place], timeout_ms=_ANSWER_MS)[place]
            end = (
                upto + 1 if upto is not None else consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place]
            )
            found = self._newest(consumer, place, begin, end)
        finally:
            consumer.close()
        owner = _content(found.get(self._owner_key)).get("owner")
        kept = found.get(self._key)
        content = _content(kept)
        portion = str(content.get("portion", ""))
        try:
            place = None if not kept else decode_place(content.get("place"))
        except ValueError:
            return Kept(None, portion, _owner(owner), damaged=True)
        return Kept(place, portion, _owner(owner))

    def _newest(self, consumer: Any, place: TopicPartition, begin: int, end: int) -> dict[bytes, bytes]:
        """The newest values of both keys. Looked for from the end, since compaction may be long in coming."""
        found: dict[bytes, bytes] = {}
        window = _WINDOW
        while end > begin and len(found) < 2:
            low = max(begin, end - window)
            newer = dict(found)
            for record in _records(consumer, place, low, end):
                if record.key in (self._key, self._owner_key) and record.key not in newer:
                    found[record.key] = record.value or b""
            end, window = low, window * 10
        return found

    def _record(self, key: bytes, content: dict[str, object]) -> Outgoing:
        return Outgoing(self._topic, key, orjson.dumps(content), [], partition=0)


def _owner(name: object) -> str | None:
    return name if isinstance(name, str) else None


def _content(value: bytes | None) -> dict[str, object]:
    try:
        content = orjson.loads(value or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _records(consumer: Any, place: TopicPartition, low: int, end: int) -> Iterator[Any]:
    """The committed records in [low, end)."""
    consumer.seek(place, low)
    give_up_at_s = time.monotonic() + _PATIENCE_S
    while (at := consumer.position(place)) < end:
        records = consumer.poll(timeout_ms=_POLL_MS).get(place, [])
        yield from (record for record in records if record.offset < end)
        if records and records[-1].offset >= end - 1:
            return
        if consumer.position(place) > at:
            give_up_at_s = time.monotonic() + _PATIENCE_S
        if time.monotonic() >= give_up_at_s:
            raise ConnectorFailed(
                f"Kafka topic {place.topic} cannot be read to its end; a transaction of another producer may be open"
            )
