"""What the file sink writes of a delivery: names that no content can steer, and JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from connectors.cloudevents import JsonValue, to_json_event
from connectors.delivery import Delivery
from protos.entente.v1.exchange_pb2 import Disclosure, Effect, Notice, Withdrawal
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_PREFIX = 60
_HASH_DIGITS = 24


def record_name(source: str, record_id: str) -> str:
    """The name, without ending, of the file of a record: readable at its beginning, unmistakable at its end."""
    return _name(record_id, f"{source}\0{record_id}")


def notice_name(notice: Notice) -> str:
    """The same for a notice, whose id tells nothing of the record's."""
    return _name(notice.id, f"{notice.owner}\0{notice.id}")


def encode(delivery: Delivery) -> bytes:
    """One line of JSON: the CloudEvents JSON format, `notice` or `withdrawal`; `disclosure`; and `receipt`, base64."""
    shown: dict[str, JsonValue] = {}
    if delivery.withdrawal is not None:
        shown["withdrawal"] = _withdrawal(delivery.withdrawal)
    else:
        shown["disclosure"] = _disclosure(delivery.disclosure)
    if delivery.notice is not None:
        shown["notice"] = _notice(delivery.notice)
    if delivery.receipt:
        shown["receipt"] = base64.b64encode(delivery.receipt).decode("ascii")
    if delivery.record is None:
        return _line(shown)
    try:
        return _line(to_json_event(delivery.record) | shown)
    except ValueError:
        # Text that calls itself JSON and holds what JSON cannot say again, such as a number beyond all bounds.
        return _line(to_json_event(_opaque(delivery.record)) | shown)


def _opaque(record: CloudEvent) -> CloudEvent:
    """The same record with its data as bytes of no known type, which the JSON format writes in base64."""
    opaque = CloudEvent()
    opaque.CopyFrom(record)
    if record.WhichOneof("data") == "text_data":
        opaque.binary_data = record.text_data.encode()
    opaque.attributes["datacontenttype"].ce_string = "application/octet-stream"
    return opaque


def _line(shown: dict[str, JsonValue]) -> bytes:
    """Half a character, which JSON can hold as an escape, stays one."""
    try:
        return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(shown, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _name(readable: str, identity: str) -> str:
    prefix = _UNSAFE.sub("-", readable)[:_LONGEST_PREFIX].strip("-")
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    return f"{prefix}.{digest}" if prefix else digest


def _disclosure(disclosure: Disclosure) -> JsonValue:
    return {
        "effect": Effect.Name(disclosure.effect).removeprefix("EFFECT_").lower(),
        "masked": list(disclosure.masked),
        "obligations": list(disclosure.obligations),
    }


def _notice(notice: Notice) -> JsonValue:
    return {"id": notice.id, "type": notice.type, "owner": notice.owner, "contact": notice.contact}


def _withdrawal(withdrawal: Withdrawal) -> JsonValue:
    names = ("source", "id", "type", "owner", "contact", "reason")
    return {name: getattr(withdrawal, name) for name in names}
