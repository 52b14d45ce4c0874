"""Builds records and shows them: CloudEvents 1.0 in the protobuf format and in the JSON format."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

AttributeValue = str | bool | int | bytes | datetime
JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

JSON_CONTENT_TYPE = "application/json"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_JSON_MEDIA_TYPE = re.compile(r"[^/]+/([^;/]+\+)?json\s*(;.*)?", re.IGNORECASE)


def new_record(
    *,
    type: str,
    source: str,
    data: JsonValue | bytes,
    labels: Mapping[str, str | Iterable[str]],
    id: str | None = None,
    time: datetime | None = None,
    subject: str | None = None,
    partition_key: str | None = None,
    content_type: str = JSON_CONTENT_TYPE,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> CloudEvent:
    """A record ready to be published.

    labels: `dataclassification` and any of `dataregulation`, `datacategory`, `purposes`, `releasableto`; several
    values are joined with commas. id: default a random UUID; `id_from` makes one that is the same next time. time: when
    it happened, with a time zone. data: bytes are sent as they are; anything else as JSON text. Raises ValueError for a
    time without zone or an attribute that is given twice.
    """
    record = CloudEvent(id=id or str(uuid.uuid4()), source=source, spec_version="1.0", type=type)
    _set(record, "datacontenttype", content_type)
    for name, label in labels.items():
        _set(record, name, label if isinstance(label, str) else ",".join(label))
    optional = {"subject": subject, "partitionkey": partition_key, "time": time, **(attributes or {})}
    for name, value in optional.items():
        if value is not None:
            _set(record, name, value)
    if isinstance(data, bytes):
        record.binary_data = data
    else:
        record.text_data = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return record


def id_from(*key: str) -> str:
    """An id that the same key always gives, so that whoever publishes a thing twice publishes one record.

    Put into the key what tells one version of a thing from the next: its number and its revision, or when it changed.
    The id is a hash (128 bits of SHA-256) and hides nothing: who can guess the key can recognise it.
    """
    digest = hashlib.sha256()
    for part in key:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]


def _set(record: CloudEvent, name: str, value: AttributeValue) -> None:
    """Set an attribute in the protobuf type that its value has (CloudEvents protobuf format, section 2.2)."""
    if name in record.attributes:
        raise ValueError(f"attribute {name!r} is given twice")
    slot = record.attributes[name]
    if isinstance(value, bool):
        slot.ce_boolean = value
    elif isinstance(value, int):
        slot.ce_integer = value
    elif isinstance(value, bytes):
        slot.ce_bytes = value
    elif isinstance(value, datetime):
        slot.ce_timestamp.CopyFrom(to_timestamp(value))
    else:
        slot.ce_string = value


def to_timestamp(moment: datetime) -> Timestamp:
    """A protobuf timestamp. Raises ValueError for a time without zone, which would be somebody's local time."""
    if moment.tzinfo is None:
        raise ValueError("the time has no zone; write it as RFC 3339 with Z or an offset")
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with its zone. Raises ValueError for anything else."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("not an RFC 3339 time with a zone, for example 2026-01-31T12:00:00Z")
    return datetime.fromisoformat(text)


def format_time(stamp: Timestamp) -> str:
    """RFC 3339 in UTC, ending in Z, with as many fractional digits as it takes (0, 3, 6 or 9)."""
    return stamp.ToJsonString()


def attribute(record: CloudEvent, name: str) -> JsonValue:
    """An optional or extension attribute as in the JSON format; None if the record does not have it."""
    return _json_attribute(record.attributes[name]) if name in record.attributes else None


def to_json_event(record: CloudEvent) -> dict[str, JsonValue]:
    """The record in the CloudEvents JSON format 1.0.2, as a JSON object.

    Data of a JSON media type appears as JSON in `data` (section 3.1.1), other text as a string, and bytes as
    `data_base64`, also where bytes claim to be JSON and are not.
    """
    event: dict[str, JsonValue] = {
        "specversion": record.spec_version,
        "id": record.id,
        "source": record.source,
        "type": record.type,
    }
    event.update({name: _json_attribute(record.attributes[name]) for name in sorted(record.attributes)})
    event.update(_json_data(record))
    return event


def _json_attribute(value: CloudEvent.CloudEventAttributeValue) -> JsonValue:
    """Section 2.2 of the JSON format: booleans and integers as such, all else as strings."""
    match value.WhichOneof("attr"):
        case "ce_boolean":
            return value.ce_boolean
        case "ce_integer":
            return value.ce_integer
        case "ce_bytes":
            return base64.b64encode(value.ce_bytes).decode("ascii")
        case "ce_timestamp":
            return format_time(value.ce_timestamp)
        case "ce_uri":
            return value.ce_uri
        case "ce_uri_ref":
            return value.ce_uri_ref
        case _:
            return value.ce_string


def _json_data(record: CloudEvent) -> dict[str, JsonValue]:
    kind = record.WhichOneof("data")
    if kind is None:
        return {}
    if kind == "proto_data":
        return {"data_base64": base64.b64encode(record.proto_data.value).decode("ascii")}
    if _is_json(record):
        try:
            return {"data": data_of(record)}
        except ValueError:
            pass
    if kind == "text_data":
        return {"data": record.text_data}
    return {"data_base64": base64.b64encode(record.binary_data).decode("ascii")}


def data_of(record: CloudEvent) -> JsonValue:
    """The record's data read as JSON (RFC 8259). Raises ValueError if it is not JSON."""
    kind = record.WhichOneof("data")
    text = record.text_data if kind == "text_data" else record.binary_data.decode("utf-8")
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> float:
    # Python reads NaN and Infinity, which RFC 8259 does not have.
    raise ValueError(f"{name} is not JSON")


def _is_json(record: CloudEvent) -> bool:
    content_type = (
        record.attributes["datacontenttype"].ce_string if "datacontenttype" in record.attributes else ""
    )
    return _JSON_MEDIA_TYPE.fullmatch(content_type) is not None
