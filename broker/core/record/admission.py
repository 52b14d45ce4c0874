"""Admission: checks a record at publish, stamps it and makes it ready for the log.

Refuses what later steps could not treat safely: rule 1 wants missing labels, unknown types and words outside the vocabulary
turned away at the door, and the design's section on records says which content can be redacted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from broker.core.record.envelope import (
    LABELS,
    STAMPED,
    Others,
    Texts,
    attributes_of,
    instant_ms,
    labels_of,
    source_agency,
)
from broker.core.record.fingerprint import digest_of, identity
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
_INSTANTS = frozenset({"time", "expirytime"})
_USUAL = _ENVELOPE_TEXT | _INSTANTS | {*LABELS}
"""Names of attributes that need no look: they are well formed, and neither core nor stamped."""

_MAX_PARTITION_KEY = 256

_OF_KIND = (*LABELS, "datacontenttype")
_KINDS, _KIND_CHARACTERS = 4_096, 1_024
"""Kinds that are kept, of attributes that have so many characters at most: 4 Mi in all. Others are made anew each time."""


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """Bounds of one record; bytes of the serialised CloudEvent, of one attribute's value, and counts."""

    record_bytes: int = 1_048_576
    attribute_bytes: int = 4_096
    attributes: int = 32
    document_depth: int = 64


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """All that decisions depend on in a record; mostly one object for all records that share it, compared by identity."""

    record_type: RecordType
    labels: Labels
    is_json: bool

    @classmethod
    def of(cls, record_type: RecordType, labels: Labels) -> Kind:
        """That of records of this type with these labels."""
        return cls(record_type, labels, JSON_CONTENT.fullmatch(record_type.content_type) is not None)


class Candidate(NamedTuple):
    """A record that passed all checks but the decision.

    digest: see NewRecord. expires_ms: milliseconds since the epoch. document: only if it was asked for.
    """

    event: CloudEvent
    kind: Kind
    digest: bytes
    expires_ms: int | None = None
    partition_key: str | None = None
    document: object | None = None


class Admission:
    """Checks the records of one revision; may be used by several threads."""

    def __init__(self, registry: Registry, limits: RecordLimits) -> None:
        self._registry = registry
        self._limits = limits
        self._kinds: dict[tuple[str | None, ...], Kind] = {}

    def examine(
        self,
        event: CloudEvent,
        content: bytes,
        principal: Principal,
        topic: Topic,
        *,
        keep_document: bool = False,
    ) -> Candidate:
        """Check one record as its caller sent it; content: see `content_of`.

        Raises EntenteError with the reason of the first fault found; its text never holds content.
        """
        limits = self._limits
        if len(content) > limits.record_bytes:
            raise EntenteError(Reason.RECORD_TOO_LARGE, str(limits.record_bytes))
        _check_core(event)
        if len(event.attributes) > limits.attributes:
            raise EntenteError(Reason.RECORD_INVALID, f"more than {limits.attributes} attributes")
        texts, others = attributes_of(event)
        data = payload(event)
        _check_attributes(texts, others, event, limits, len(content) - len(data))
        expires_ms = _check_instants(texts, others, event)
        partition_key = texts.get("partitionkey")
        if partition_key is not None and len(partition_key.encode()) > _MAX_PARTITION_KEY:
            raise EntenteError(Reason.RECORD_INVALID, f"partitionkey is over {_MAX_PARTITION_KEY} bytes")
        kind = self._kind(texts, others, self._record_type(event, principal, topic))
        # Also where the type has no field markings yet: it may have them by the time the record is delivered.
        document = check_document(data, limits.document_depth) if kind.is_json else None
        return Candidate(
            event, kind, digest_of(content), expires_ms, partition_key, document if keep_document else None
        )

    def _record_type(self, event: CloudEvent, principal: Principal, topic: Topic) -> RecordType:
        """The event's; raises EntenteError unless the principal's agency publishes it."""
        agency, name = principal.agency, event.type
        if source_agency(event.source) != agency:
            raise EntenteError(Reason.SOURCE_FORGED, agency)
        record_type = self._registry.record_types.get(name)
        # One answer for a missing type and one of others, which may be hidden from the caller (design rule 6). And before
        # what follows: a document of somebody who may not publish it costs nothing.
        if record_type is None or name not in topic.accepts or agency not in record_type.publishers:
            raise EntenteError(Reason.RECORD_TYPE_NOT_FOUND, name)
        return record_type

    def _kind(self, texts: Texts, others: Others, record_type: RecordType) -> Kind:
        """Checks labels and content type, unless the same ones have been found good already."""
        key = (record_type.name, *map(texts.get, _OF_KIND))
        kind = self._kinds.get(key) if others.keys() <= _INSTANTS else None
        if kind is None:
            labels = _checked_labels(texts, others, self._registry.vocabulary)
            _check_content_type(texts, record_type)
            kind = Kind.of(record_type, labels)
            if sum(map(len, filter(None, key))) <= _KIND_CHARACTERS:
                if len(self._kinds) >= _KINDS:
                    self._kinds.clear()
                self._kinds[key] = kind
        return kind


def stamp(candidate: Candidate, principal: Principal, now_ms: int) -> NewRecord:
    """Stamp `recordedtime` and `authid`, and serialise; raises EntenteError RECORD_EXPIRED.

    The event stays what it was: it is examined again if another revision comes into force before it is stored.
    """
    event, expires_ms, key = candidate.event, candidate.expires_ms, candidate.partition_key
    if expires_ms is not None and expires_ms <= now_ms:
        raise EntenteError(Reason.RECORD_EXPIRED)
    source, record_id, attributes = event.source, event.id, event.attributes
    event.MergeFromString(_stamps(principal.agency, principal.subject, now_ms))
    body = event.SerializeToString(deterministic=True)
    for name in STAMPED:
        del attributes[name]
    partition_key = (key if key is not None else f"{source}\0{record_id}").encode()
    return NewRecord(partition_key, identity(source, record_id), candidate.digest, body, now_ms)


@lru_cache(maxsize=64)
def _stamps(agency: str, subject: str, now_ms: int) -> bytes:
    """An event that has nothing but what the broker stamps, serialised: the same for all records of a call."""
    event = CloudEvent()
    event.attributes["recordedtime"].ce_timestamp.FromMilliseconds(now_ms)
    event.attributes["authid"].ce_string = f"{agency}/{subject}"
    return event.SerializeToString()


def payload(event: CloudEvent) -> bytes:
    """The record's data as bytes; empty if it has none."""
    return event.text_data.encode() if event.WhichOneof("data") == "text_data" else event.binary_data


def _check_core(event: CloudEvent) -> None:
    if event.spec_version != "1.0":
        raise EntenteError(Reason.RECORD_INVALID, "specversion is not 1.0")
    for name, value in (("id", event.id), ("source", event.source), ("type", event.type)):
        if not value or len(value.encode()) > 1024 or not value.isprintable():
            raise EntenteError(Reason.RECORD_INVALID, f"{name} is empty, over 1024 bytes or not printable")
    if event.HasField("proto_data"):
        raise EntenteError(Reason.RECORD_INVALID, "proto_data is not supported; send binary_data")


def _check_attributes(
    texts: Texts, others: Others, event: CloudEvent, limits: RecordLimits, size_bytes: int
) -> None:
    """size_bytes: what all attributes have together at most."""
    may_be_long = size_bytes > limits.attribute_bytes
    for name, text in texts.items():
        if may_be_long or name not in _USUAL or not text:
            _check_attribute(name, text, event.attributes[name], limits)
    for name, value in others.items():
        if may_be_long or name not in _INSTANTS or not value.HasField("ce_timestamp"):
            _check_attribute(name, None, value, limits)


def _check_attribute(
    name: str, text: str | None, value: CloudEvent.CloudEventAttributeValue, limits: RecordLimits
) -> None:
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise EntenteError(Reason.RECORD_INVALID, "an attribute's name is not 1 to 20 of [a-z0-9]")
    if name in _CORE:
        raise EntenteError(Reason.RECORD_INVALID, f"{name} stands twice, as a field and as an attribute")
    if name in STAMPED:
        raise EntenteError(Reason.ATTRIBUTE_RESERVED, name)
    if value.WhichOneof("attr") is None or value.ByteSize() > limits.attribute_bytes:
        raise EntenteError(Reason.RECORD_INVALID, f"{name} is empty or over {limits.attribute_bytes} bytes")
    if name in _ENVELOPE_TEXT and not text:
        raise EntenteError(Reason.RECORD_INVALID, f"{name} is empty or not a string")


def _check_instants(texts: Texts, others: Others, event: CloudEvent) -> int | None:
    """When the event expires, in milliseconds since the epoch."""
    try:
        _instant_ms("time", texts, others, event)
        return _instant_ms("expirytime", texts, others, event)
    except ValueError as error:
        raise EntenteError(Reason.RECORD_INVALID, str(error)) from None


def _instant_ms(name: str, texts: Texts, others: Others, event: CloudEvent) -> int | None:
    if name in others:
        return instant_ms(name, others[name])
    return instant_ms(name, event.attributes[name]) if name in texts else None


def _checked_labels(texts: Texts, others: Others, vocabulary: Vocabulary) -> Labels:
    try:
        labels = labels_of(texts, others)
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


def _check_content_type(texts: Texts, record_type: RecordType) -> None:
    content_type = texts.get("datacontenttype") or "application/json"
    if content_type.partition(";")[0].strip().lower() != record_type.content_type:
        raise EntenteError(
            Reason.CONTENT_INVALID, f"datacontenttype is not the type's {record_type.content_type}"
        )
