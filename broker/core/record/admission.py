"""Admission: checks a record at publish, stamps it and makes it ready for the log.

Refuses what later steps could not treat safely: rule 1 wants missing labels, unknown types and words outside the vocabulary
turned away at the door, and the design's section on records says which content can be redacted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.core.record.envelope import (
    STAMPED,
    instant_ms_attribute,
    read_labels,
    source_agency,
    text_attribute,
)
from broker.core.record.fingerprint import content_digest, identity
from broker.core.redact.accept import check_document
from broker.errors import EntenteError, Reason
from broker.model.labels import Labels
from broker.model.principal import Principal
from broker.model.record import NewRecord
from broker.model.registry import RecordType, Registry, Topic, Vocabulary
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

JSON_CONTENT = re.compile(r"application/(?:[a-z0-9.+-]*\+)?json(?:;.*)?", re.IGNORECASE)
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,20}")
_AGENCY_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Members of other formats of the same event: as an attribute one would overwrite the other there.
_CORE = frozenset({"id", "source", "specversion", "type", "data"})
_ENVELOPE_TEXT = frozenset({"subject", "partitionkey", "datacontenttype", "dataschema", "traceparent"})
_MAX_PARTITION_KEY = 256


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """Bounds of one record; bytes of the serialised CloudEvent, of one attribute's value, and counts."""

    record_bytes: int = 1_048_576
    attribute_bytes: int = 4_096
    attributes: int = 32
    document_depth: int = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that passed all checks but the decision."""

    event: CloudEvent
    record_type: RecordType
    labels: Labels
    document: object | None


def examine(
    event: CloudEvent, principal: Principal, topic: Topic, registry: Registry, limits: RecordLimits
) -> Candidate:
    """Check one record as its caller sent it; drops unknown protobuf fields.

    Raises EntenteError with the reason of the first fault found; its text never holds content.
    """
    event.DiscardUnknownFields()
    _check_size(event, limits)
    _check_core(event)
    _check_attributes(event, limits)
    if source_agency(event.source) != principal.agency:
        raise EntenteError(Reason.SOURCE_FORGED, principal.agency)
    record_type = registry.record_types.get(event.type)
    # One answer for a missing type and one of others, which may be hidden from the caller (design rule 6). And before
    # what follows: a document of somebody who may not publish it costs nothing.
    if (
        record_type is None
        or event.type not in topic.accepts
        or principal.agency not in record_type.publishers
    ):
        raise EntenteError(Reason.RECORD_TYPE_NOT_FOUND, event.type)
    labels = _check_labels(event, registry.vocabulary)
    document = _check_content(event, record_type, limits)
    return Candidate(event, record_type, labels, document)


def stamp(candidate: Candidate, principal: Principal, now_ms: int) -> NewRecord:
    """Stamp `recordedtime` and `authid`, and serialise once; raises EntenteError RECORD_EXPIRED.

    The event stays what it was: it is examined again if another revision comes into force before it is stored.
    """
    event = candidate.event
    expires_ms = _expiry(event)
    if expires_ms is not None and expires_ms <= now_ms:
        raise EntenteError(Reason.RECORD_EXPIRED)
    digest = content_digest(event)
    event.attributes["recordedtime"].ce_timestamp.FromMilliseconds(now_ms)
    event.attributes["authid"].ce_string = f"{principal.agency}/{principal.subject}"
    body = event.SerializeToString(deterministic=True)
    for name in STAMPED:
        del event.attributes[name]
    key = text_attribute(event, "partitionkey")
    return NewRecord(
        partition_key=(key if key is not None else f"{event.source}\0{event.id}").encode(),
        identity=identity(event.source, event.id),
        digest=digest,
        body=body,
        recorded_ms=now_ms,
    )


def payload(event: CloudEvent) -> bytes:
    """The record's data as bytes; empty if it has none."""
    return event.text_data.encode() if event.WhichOneof("data") == "text_data" else event.binary_data


def _check_size(event: CloudEvent, limits: RecordLimits) -> None:
    if event.ByteSize() > limits.record_bytes:
        raise EntenteError(Reason.RECORD_TOO_LARGE, str(limits.record_bytes))


def _check_core(event: CloudEvent) -> None:
    if event.spec_version != "1.0":
        raise EntenteError(Reason.RECORD_INVALID, "specversion is not 1.0")
    for name, value in (("id", event.id), ("source", event.source), ("type", event.type)):
        if not value or len(value.encode()) > 1024 or not value.isprintable():
            raise EntenteError(Reason.RECORD_INVALID, f"{name} is empty, over 1024 bytes or not printable")
    if event.WhichOneof("data") == "proto_data":
        raise EntenteError(Reason.RECORD_INVALID, "proto_data is not supported; send binary_data")


def _check_attributes(event: CloudEvent, limits: RecordLimits) -> None:
    if len(event.attributes) > limits.attributes:
        raise EntenteError(Reason.RECORD_INVALID, f"more than {limits.attributes} attributes")
    for name, value in event.attributes.items():
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise EntenteError(Reason.RECORD_INVALID, "an attribute's name is not 1 to 20 of [a-z0-9]")
        if name in _CORE:
            raise EntenteError(Reason.RECORD_INVALID, f"{name} stands twice, as a field and as an attribute")
        if name in STAMPED:
            raise EntenteError(Reason.ATTRIBUTE_RESERVED, name)
        if value.WhichOneof("attr") is None or value.ByteSize() > limits.attribute_bytes:
            raise EntenteError(
                Reason.RECORD_INVALID, f"{name} is empty or over {limits.attribute_bytes} bytes"
            )
        if name in _ENVELOPE_TEXT and not text_attribute(event, name):
            raise EntenteError(Reason.RECORD_INVALID, f"{name} is empty or not a string")
    _check_instants(event)
    if len((text_attribute(event, "partitionkey") or "").encode()) > _MAX_PARTITION_KEY:
        raise EntenteError(Reason.RECORD_INVALID, f"partitionkey is over {_MAX_PARTITION_KEY} bytes")


def _check_instants(event: CloudEvent) -> None:
    try:
        instant_ms_attribute(event, "time")
        instant_ms_attribute(event, "expirytime")
    except ValueError as error:
        raise EntenteError(Reason.RECORD_INVALID, str(error)) from None


def _expiry(event: CloudEvent) -> int | None:
    return instant_ms_attribute(event, "expirytime")


def _check_labels(event: CloudEvent, vocabulary: Vocabulary) -> Labels:
    try:
        labels = read_labels(event)
    except ValueError as error:
        raise EntenteError(Reason.LABEL_INVALID, str(error)) from None
    _within(labels.dataclassification, vocabulary.classifications, "dataclassification")
    for regulation in labels.dataregulation:
        _within(regulation, vocabulary.regulations, "dataregulation")
    if labels.datacategory:
        _within(labels.datacategory, vocabulary.categories, "datacategory")
    for purpose in labels.purposes:
        _within(purpose, vocabulary.purposes, "purposes")
    # Not looked up: an answer that tells known agencies from unknown ones would list them for anyone who may publish.
    if not all(_AGENCY_NAME.fullmatch(agency) for agency in labels.releasableto):
        raise EntenteError(Reason.LABEL_INVALID, "releasableto holds what is no agency's name")
    return labels


def _within(word: str, words: frozenset[str] | tuple[str, ...], name: str) -> None:
    if word not in words:
        raise EntenteError(
            Reason.LABEL_INVALID, f"{name} holds a word outside the vocabulary; see 'catalog vocabulary'"
        )


def _check_content(event: CloudEvent, record_type: RecordType, limits: RecordLimits) -> object | None:
    content_type = text_attribute(event, "datacontenttype") or "application/json"
    if content_type.partition(";")[0].strip().lower() != record_type.content_type:
        raise EntenteError(
            Reason.CONTENT_INVALID, f"datacontenttype is not the type's {record_type.content_type}"
        )
    if not JSON_CONTENT.fullmatch(record_type.content_type):
        return None
    # Also where the type has no field markings yet: it may have them by the time the record is delivered.
    return check_document(payload(event), limits.document_depth)
