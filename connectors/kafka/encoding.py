"""What the exchange hands out, as Kafka records: CloudEvents in Kafka's protocol binding 1.0.2.

How a record is disclosed stands in headers beside it: `entente-effect`, `entente-masked` and `entente-obligations` (lists
with commas, as labels are), and `entente-receipt` (base64), by which the exchange's auditors find the decision.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import orjson

from connectors.cloudevents import JsonValue, attribute
from connectors.delivery import Delivery
from connectors.kafka.destinations import Destinations, NoDestination, agency_of
from connectors.kafka.sink_settings import KafkaSinkSettings, KeyBy
from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Headers = list[tuple[str, bytes]]

_THOUSANDTHS = tuple(f".{number:03d}Z" for number in range(1_000))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STRUCTURED = b"application/cloudevents+json; charset=UTF-8"
_JSON_HEADER = ("content-type", b"application/json")
_JSON_MEDIA_TYPE = re.compile(r"[^/]+/([^;/]+\+)?json\s*(;.*)?", re.IGNORECASE)


class Outgoing(NamedTuple):
    """One Kafka record to write. place: what chooses its partition instead of its key; partition: where it goes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    place: bytes | None = None
    partition: int | None = None


def record_key(source: str, id: str) -> bytes:
    """What a record and its tombstone have in common. A source is a URI reference (RFC 3986): it holds no space."""
    return f"{source} {id}".encode()


class Encoder:
    """Encodes deliveries as the sink is configured."""

    def __init__(self, settings: KafkaSinkSettings) -> None:
        write = settings.write
        self._exchange_topic = settings.topic
        self._purpose = settings.purpose
        self._destinations = Destinations(write.topic, write.reserved)
        self._content = _structured if write.mode == "structured" else _binary
        self._key_by: KeyBy = write.key
        self._tombstones = write.tombstones and write.key == "record"
        self._notice_topic = write.notice_topic
        self._disclosed = _Disclosed()

    def encode(self, delivery: Delivery) -> list[Outgoing]:
        """What to write for one delivery. Raises NoDestination."""
        if delivery.record is not None:
            return [self._record(delivery.record, delivery)]
        if delivery.withdrawal is not None:
            return self._withdrawal(delivery.withdrawal)
        if delivery.notice is not None:
            notice = delivery.notice
            told = {"id": notice.id, "type": notice.type, "owner": notice.owner, "contact": notice.contact}
            return self._told("notice", notice.id, told, self._disclosed.headers(delivery))
        return self._told("policy-change", "policy-change", {}, [])

    def _record(self, record: CloudEvent, delivery: Delivery) -> Outgoing:
        return self._addressed(self._topic_for(record), record, delivery)

    def without_destination(self, delivery: Delivery) -> Outgoing:
        """A record as it would be written if there were a topic for it."""
        if delivery.record is None:
            raise ValueError("only records have destinations that may not exist")
        return self._addressed("", delivery.record, delivery)

    def _topic_for(self, told: CloudEvent | pb.Withdrawal) -> str:
        return self._destinations.topic_for(self._exchange_topic, told.type, agency_of(told.source))

    def _addressed(self, topic: str, record: CloudEvent, delivery: Delivery) -> Outgoing:
        value, headers = self._content(record)
        headers += self._disclosed.headers(delivery)
        if self._key_by == "record":
            return Outgoing(topic, record_key(record.source, record.id), value, headers)
        key = record.source if self._key_by == "source" else attribute(record, self._key_by)
        if key is None:
            return Outgoing(topic, None, value, headers, record_key(record.source, record.id))
        return Outgoing(topic, str(key).encode(), value, headers)

    def _withdrawal(self, withdrawal: pb.Withdrawal) -> list[Outgoing]:
        identity = {"source": withdrawal.source, "id": withdrawal.id, "type": withdrawal.type}
        owner = {"owner": withdrawal.owner, "contact": withdrawal.contact, "reason": withdrawal.reason}
        key = record_key(withdrawal.source, withdrawal.id)
        told = self._told("withdrawal", key.decode(), {**identity, **owner}, [])
        if not self._tombstones:
            return told
        try:
            return [Outgoing(self._topic_for(withdrawal), key, None, []), *told]
        except NoDestination:
            return told  # nor was there one for the record

    def _told(
        self, kind: str, key: str, content: Mapping[str, JsonValue], headers: Headers
    ) -> list[Outgoing]:
        if self._notice_topic is None:
            return []
        value = orjson.dumps({"topic": self._exchange_topic, "purpose": self._purpose, **content})
        about = [("entente-kind", kind.encode()), _JSON_HEADER]
        return [Outgoing(self._notice_topic, key.encode(), value, about + headers)]


class _Disclosed:
    """The headers of a disclosure; most records of a batch have the same."""

    def __init__(self) -> None:
        self._disclosure: pb.Disclosure | None = None
        self._receipt = b""
        self._headers: Headers = []

    def headers(self, delivery: Delivery) -> Headers:
        if delivery.receipt != self._receipt or delivery.disclosure != self._disclosure:
            self._disclosure, self._receipt = delivery.disclosure, delivery.receipt
            self._headers = _disclosure(self._disclosure, self._receipt)
        return self._headers


def _disclosure(disclosure: pb.Disclosure, receipt: bytes) -> Headers:
    effect = pb.Effect.Name(disclosure.effect).removeprefix("EFFECT_").lower()
    return [
        ("entente-effect", effect.encode()),
        ("entente-masked", ",".join(disclosure.masked).encode()),
        ("entente-obligations", ",".join(disclosure.obligations).encode()),
        ("entente-receipt", base64.b64encode(receipt)),
    ]


_Content = Callable[[CloudEvent], tuple[bytes, Headers]]


def _binary(record: CloudEvent) -> tuple[bytes, Headers]:
    """Section 3.2: attributes as headers, the data as they are."""
    headers = [
        ("ce_specversion", record.spec_version.encode()),
        ("ce_id", record.id.encode()),
        ("ce_source", record.source.encode()),
        ("ce_type", record.type.encode()),
    ]
    attributes = record.attributes
    for name in attributes:
        value = attributes[name]
        text = value.ce_string or _text(value, record, name)
        headers.append((_header_of(name), text.encode()))
    return _data(record), headers


@lru_cache(maxsize=1_024)
def _header_of(name: str) -> str:
    return "content-type" if name == "datacontenttype" else f"ce_{name}"


def _text(value: CloudEvent.CloudEventAttributeValue, record: CloudEvent, name: str) -> str:
    """CloudEvents 1.0.2, section 3.1: the string form of each type."""
    if value.HasField("ce_timestamp"):
        stamp = value.ce_timestamp
        thousandths, rest = divmod(stamp.nanos, 1_000_000)
        if not rest:
            return _second(stamp.seconds) + _THOUSANDTHS[thousandths]
    if value.HasField("ce_boolean"):
        return "true" if value.ce_boolean else "false"
    return str(attribute(record, name))


@lru_cache(maxsize=64)
def _second(epoch_s: int) -> str:
    """Every record has the time when it was stored: a batch's are of the same few seconds."""
    return (_EPOCH + timedelta(seconds=epoch_s)).isoformat().removesuffix("+00:00")


def _structured(record: CloudEvent) -> tuple[bytes, Headers]:
    """Section 3.3, in the JSON format. JSON data stay as they were written, numbers too."""
    event: dict[str, object] = {
        "specversion": record.spec_version,
        "id": record.id,
        "source": record.source,
        "type": record.type,
    }
    event.update({name: attribute(record, name) for name in sorted(record.attributes)})
    kind = record.WhichOneof("data")
    if kind is not None:
        data = _data(record)
        if _holds_json(record, data):
            event["data"] = orjson.Fragment(data)
        elif kind == "text_data" and not _claims_json(record):
            event["data"] = record.text_data
        else:
            event["data_base64"] = base64.b64encode(data).decode("ascii")
    return orjson.dumps(event), [("content-type", STRUCTURED)]


def _data(record: CloudEvent) -> bytes:
    if data := record.binary_data:
        return data
    match record.WhichOneof("data"):
        case "text_data":
            return record.text_data.encode()
        case "proto_data":
            return record.proto_data.value
        case _:
            return b""


def _claims_json(record: CloudEvent) -> bool:
    content_type = attribute(record, "datacontenttype")
    return isinstance(content_type, str) and _JSON_MEDIA_TYPE.fullmatch(content_type) is not None


def _holds_json(record: CloudEvent, data: bytes) -> bool:
    if not _claims_json(record):
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
