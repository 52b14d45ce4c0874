"""Reading CloudEvents attributes: strings, instants, the source's agency, labels.

Source: CloudEvents 1.0.2 §3 and its Protobuf format; its extensions data classification, expiry time, recorded time
and auth context.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from broker.model.labels import Labels
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

STAMPED = frozenset({"recordedtime", "authid"})
"""Stamped by the broker, never accepted from a caller."""

_SOURCE = re.compile(r"//([a-z0-9][a-z0-9-]*)/")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def text_attribute(event: CloudEvent, name: str) -> str | None:
    """The attribute as text if it is there and of a text type (string, URI, URI reference), else None."""
    if name not in event.attributes:
        return None
    value = event.attributes[name]
    match value.WhichOneof("attr"):
        case "ce_string":
            return value.ce_string
        case "ce_uri":
            return value.ce_uri
        case "ce_uri_ref":
            return value.ce_uri_ref
        case _:
            return None


def instant_ms_attribute(event: CloudEvent, name: str) -> int | None:
    """The attribute in milliseconds since the epoch; None if absent. Raises ValueError unless a timestamp (RFC 3339)."""
    if name not in event.attributes:
        return None
    value = event.attributes[name]
    try:
        if value.WhichOneof("attr") == "ce_timestamp":
            return value.ce_timestamp.ToMilliseconds()
        text = text_attribute(event, name)
        if text is not None and _INSTANT.fullmatch(text):
            return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):  # no such day, or beyond the years 1 to 9999
        pass
    raise ValueError(f"{name} is not an RFC 3339 timestamp")


def source_agency(source: str) -> str | None:
    """The agency that `//<agency>/…` names, or None."""
    match = _SOURCE.match(source)
    return match.group(1) if match else None


def read_labels(event: CloudEvent) -> Labels:
    """The record's labels, lists sorted.

    Raises ValueError, one line, if one is missing, not text, or holds an empty or repeated word.
    """
    classification = _label_text(event, "dataclassification")
    if not classification:
        raise ValueError("dataclassification is missing")
    return Labels(
        dataclassification=classification,
        dataregulation=_label_list(event, "dataregulation"),
        datacategory=_label_text(event, "datacategory"),
        purposes=_label_list(event, "purposes"),
        releasableto=_label_list(event, "releasableto"),
    )


def _label_text(event: CloudEvent, name: str) -> str:
    if name not in event.attributes:
        return ""
    text = text_attribute(event, name)
    if not text:
        raise ValueError(f"{name} is empty or not a string")
    return text


def _label_list(event: CloudEvent, name: str) -> tuple[str, ...]:
    text = _label_text(event, name)
    if not text:
        return ()
    words = text.split(",")
    if "" in words:
        raise ValueError(f"{name} holds an empty word")
    if len(set(words)) != len(words):
        raise ValueError(f"{name} names a word twice")
    return tuple(sorted(words))
