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


Texts = Mapping[str, str | None]
"""All attributes by name; None for one that is of no text type."""


def texts_of(event: CloudEvent) -> Texts:
    """The event's attributes read in one pass: for who looks at several, which costs less than one look-up for each."""
    found: dict[str, str | None] = {}
    attributes = event.attributes
    for name in attributes:
        value = attributes[name]
        kind = value.WhichOneof("attr")
        if kind == "ce_string":
            found[name] = value.ce_string
        elif kind == "ce_uri":
            found[name] = value.ce_uri
        else:
            found[name] = value.ce_uri_ref if kind == "ce_uri_ref" else None
    return found


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


@lru_cache(maxsize=1_024)
def source_agency(source: str) -> str | None:
    """The agency that `//<agency>/…` names, or None."""
    match = _SOURCE.match(source)
    return match.group(1) if match else None


def read_labels(event: CloudEvent) -> Labels:
    """As `labels_of` for all attributes of an event."""
    return labels_of(texts_of(event))


def labels_of(texts: Texts) -> Labels:
    """The record's labels, lists sorted.

    Raises ValueError, one line, if one is missing, not text, or holds an empty or repeated word.
    """
    classification = _label_text(texts, "dataclassification")
    if not classification:
        raise ValueError("dataclassification is missing")
    return Labels(
        dataclassification=classification,
        dataregulation=_label_list(texts, "dataregulation"),
        datacategory=_label_text(texts, "datacategory"),
        purposes=_label_list(texts, "purposes"),
        releasableto=_label_list(texts, "releasableto"),
    )


def _label_text(texts: Texts, name: str) -> str:
    text = texts.get(name, "")
    if not text and name in texts:
        raise ValueError(f"{name} is empty or not a string")
    return text or ""


def _label_list(texts: Texts, name: str) -> tuple[str, ...]:
    text = _label_text(texts, name)
    if not text:
        return ()
    words = text.split(",")
    if "" in words:
        raise ValueError(f"{name} holds an empty word")
    if len(set(words)) != len(words):
        raise ValueError(f"{name} names a word twice")
    return tuple(sorted(words))
