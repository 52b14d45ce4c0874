"""Reading CloudEvents attributes: strings, instants, the source's agency, labels.

Source: CloudEvents 1.0.2 §3 and its Protobuf format; its extensions data classification, expiry time, recorded time
and auth context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from broker.model.labels import Labels
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

STAMPED = frozenset({"recordedtime", "authid"})
"""Stamped by the broker, never accepted from a caller."""

LABELS = ("dataclassification", "dataregulation", "datacategory", "purposes", "releasableto")
"""The attributes that are labels, in the design's order."""

_SOURCE = re.compile(r"//([a-z0-9][a-z0-9-]*)/")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


Texts = Mapping[str, str]
"""Attributes of a text type (string, URI, URI reference) by name."""

Others = Mapping[str, CloudEvent.CloudEventAttributeValue]
"""Attributes of other types, and those that hold nothing."""


def attributes_of(event: CloudEvent) -> tuple[Texts, Others]:
    """All attributes in one pass: for who looks at several, which costs less than to look each up."""
    texts: dict[str, str] = {}
    others: dict[str, CloudEvent.CloudEventAttributeValue] = {}
    attributes = event.attributes
    for name in attributes:
        value = attributes[name]
        text = value.ce_string or _text(value)
        if text is None:
            others[name] = value
        else:
            texts[name] = text
    return texts, others


def text_attribute(event: CloudEvent, name: str) -> str | None:
    """The attribute as text if it is there and of a text type (string, URI, URI reference), else None."""
    if name not in event.attributes:
        return None
    return _text(event.attributes[name])


def instant_ms_attribute(event: CloudEvent, name: str) -> int | None:
    """The attribute in milliseconds since the epoch; None if absent. Raises ValueError unless a timestamp (RFC 3339)."""
    return instant_ms(name, event.attributes[name]) if name in event.attributes else None


def instant_ms(name: str, value: CloudEvent.CloudEventAttributeValue) -> int:
    """As `instant_ms_attribute`, of the value of the attribute of this name."""
    try:
        if value.HasField("ce_timestamp"):
            return value.ce_timestamp.ToMilliseconds()
        text = _text(value)
        if text is not None and _INSTANT.fullmatch(text):
            return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):  # no such day, or beyond the years 1 to 9999
        pass
    raise ValueError(f"{name} is not an RFC 3339 timestamp")


def _text(value: CloudEvent.CloudEventAttributeValue) -> str | None:
    match value.WhichOneof("attr"):
        case "ce_string":
            return value.ce_string
        case "ce_uri":
            return value.ce_uri
        case "ce_uri_ref":
            return value.ce_uri_ref
        case _:
            return None


@lru_cache(maxsize=1_024)
def source_agency(source: str) -> str | None:
    """The agency that `//<agency>/…` names, or None."""
    match = _SOURCE.match(source)
    return match.group(1) if match else None


def read_labels(event: CloudEvent) -> Labels:
    """As `labels_of` for all attributes of an event."""
    return labels_of(*attributes_of(event))


def labels_of(texts: Texts, others: Others) -> Labels:
    """The record's labels, lists sorted.

    Raises ValueError, one line, if one is missing, not text, or holds an empty or repeated word.
    """
    found = {name: _label_text(texts, others, name) for name in LABELS}
    if not found["dataclassification"]:
        raise ValueError("dataclassification is missing")
    return Labels(
        dataclassification=found["dataclassification"],
        dataregulation=_words("dataregulation", found["dataregulation"]),
        datacategory=found["datacategory"],
        purposes=_words("purposes", found["purposes"]),
        releasableto=_words("releasableto", found["releasableto"]),
    )


def _label_text(texts: Texts, others: Others, name: str) -> str:
    """Empty if there is no such label."""
    text = texts.get(name)
    if text == "" or name in others:
        raise ValueError(f"{name} is empty or not a string")
    return text or ""


def _words(name: str, text: str) -> tuple[str, ...]:
    words = text.split(",") if text else []
    if "" in words:
        raise ValueError(f"{name} holds an empty word")
    if len(set(words)) != len(words):
        raise ValueError(f"{name} names a word twice")
    return tuple(sorted(words))
