"""Recognises records that are CloudEvents already (Kafka protocol binding 1.0.2, binary and structured mode).

What an event says of its data is kept byte for byte: JSON data in a structured event is cut out of it, not written anew, so
that no number changes its form or loses digits.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from connectors.mapping.paths import NotReadable, refuse_repeated_members
from connectors.mapping.record import Unmappable
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

INVALID = "CLOUDEVENT_INVALID"
_JSON_MEDIA_TYPE = re.compile(r"[^/]+/([^;/]+\+)?json\s*(;.*)?", re.IGNORECASE)

_STRUCTURED = re.compile(
    r"application/cloudevents(?P<batch>-batch)?(\+(?P<format>[a-z]+))?\s*(;.*)?", re.IGNORECASE
)
_NAME = re.compile(r"[a-z0-9]{1,20}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_CORE = frozenset({"id", "source", "type", "specversion"})
_INT32 = range(-(2**31), 2**31)
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Event:
    """A recognised event: its attributes, with `id`, `source` and `type` where it has them, and its data as it came.

    attributes: texts, 32-bit integers, truth values, bytes and times. text: whether the data is no JSON but text.
    """

    attributes: Mapping[str, str | int | bool | bytes | Timestamp]
    data: bytes
    text: bool = False


def recognise(headers: Mapping[str, str], value: bytes) -> Event | None:
    """The event that a record is, or None if it is none. Raises Unmappable for one that is none and claims to be."""
    structured = _STRUCTURED.fullmatch(headers.get("content-type", ""))
    if structured is not None:
        return _structured(structured, value)
    if any(name.startswith("ce_") for name in headers):
        return _binary(headers, value)
    return None


def timestamp(text: str) -> Timestamp:
    """Of an RFC 3339 text with its zone. Raises ValueError."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("is no RFC 3339 time with a zone")
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def _binary(headers: Mapping[str, str], value: bytes) -> Event:
    """Section 3.2: the value is the data, `ce_` headers are the attributes."""
    attributes: dict[str, Any] = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return Event(_checked(attributes), value)


def _structured(structured: re.Match[str], value: bytes) -> Event:
    """Section 3.3: the value is the whole event, in the format that the content type names."""
    form = (structured["format"] or "json").lower()
    if structured["batch"] is not None or form not in ("json", "protobuf"):
        raise Unmappable(
            f"{INVALID}: this format of events is not taken; send JSON or protobuf, one event a record"
        )
    return _json_event(value) if form == "json" else _protobuf_event(value)


def _json_event(value: bytes) -> Event:
    try:
        spans = _members(value)
    except (NotReadable, ValueError, RecursionError, IndexError):
        raise Unmappable(f"{INVALID}: the value is no JSON object, or has a member twice") from None
    data, encoded = spans.pop("data", None), spans.pop("data_base64", None)
    if data is not None and encoded is not None:
        raise Unmappable(f"{INVALID}: data and data_base64 are both there")
    # The JSON format's section 2.2: null is the same as absent.
    attributes = _checked({name: found for name, (found, _) in spans.items() if found is not None})
    if encoded is not None:
        return Event(attributes, _from_base64(encoded[0]))
    if data is None:
        return Event(attributes, b"")
    content_type = attributes.get("datacontenttype", "application/json")
    if isinstance(data[0], str) and not _JSON_MEDIA_TYPE.fullmatch(str(content_type)):
        return Event(attributes, data[0].encode(), text=True)
    return Event(attributes, data[1].encode())


def _members(value: bytes) -> dict[str, tuple[Any, str]]:
    """The members of a JSON object: each value read, and the text that it is written as."""
    orjson.loads(value)  # the strictest of readers: UTF-8, no NaN, no half surrogates
    refuse_repeated_members(value)
    text, found, at = value.decode(), {}, 0
    decoder = json.JSONDecoder()
    at = _skip(text, at)
    if text[at] != "{":
        raise ValueError("no object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1, True)
        start = _skip(text, _skip(text, at) + 1)
        member, at = decoder.raw_decode(text, start)
        found[name] = (member, text[start:at])
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _from_base64(encoded: object) -> bytes:
    try:
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Unmappable(f"{INVALID}: data_base64 is no base64")


def _protobuf_event(value: bytes) -> Event:
    try:
        event = CloudEvent.FromString(value)
    except DecodeError:
        raise Unmappable(f"{INVALID}: the value is no CloudEvent in the protobuf format") from None
    core = {"id": event.id, "source": event.source, "type": event.type, "specversion": event.spec_version}
    attributes: dict[str, Any] = {name: text for name, text in core.items() if text}
    for name, slot in event.attributes.items():
        kind = slot.WhichOneof("attr")
        if kind is None or name in _CORE:
            raise Unmappable(f"{INVALID}: an attribute is empty, or there twice")
        attributes[name] = getattr(slot, kind)
    content = event.WhichOneof("data")
    if content == "proto_data":
        raise Unmappable(f"{INVALID}: data of type protobuf Any is not taken; send it as binary data")
    data = event.text_data.encode() if content == "text_data" else event.binary_data
    return Event(_checked(attributes), data, text=content == "text_data")


def _checked(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as CloudEvents has them (§2 and §3); `specversion` is checked and taken out."""
    if attributes.pop("specversion", None) != "1.0":
        raise Unmappable(f"{INVALID}: specversion is not 1.0")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise Unmappable(f"{INVALID}: an attribute's name is not 1 to 20 of a-z and 0-9")
        if not isinstance(value, str | int | bytes | Timestamp) or value in ("", b""):
            raise Unmappable(f"{INVALID}: attribute {name} is empty, or a list, object or fraction")
        if isinstance(value, int) and value not in _INT32:
            raise Unmappable(f"{INVALID}: attribute {name} is no 32-bit integer")
        if name in _CORE and not isinstance(value, str):
            raise Unmappable(f"{INVALID}: attribute {name} is no text")
    for name in ("time", "expirytime"):
        if isinstance(attributes.get(name), str):
            try:
                attributes[name] = timestamp(attributes[name])
            except ValueError:
                raise Unmappable(f"{INVALID}: attribute {name} is no RFC 3339 time") from None
    return attributes
