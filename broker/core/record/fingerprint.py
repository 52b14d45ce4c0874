"""What makes two records the same: identity from source and id, equality from content."""

from __future__ import annotations

import hashlib

from broker.core.record.envelope import STAMPED
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_BYTES = 16


def identity(source: str, record_id: str) -> bytes:
    """16 bytes that name a record: SHA-256 over source, NUL, id (CloudEvents §3.1.1: source + id is unique)."""
    return hashlib.sha256(f"{source}\0{record_id}".encode()).digest()[:_BYTES]


def content_of(event: CloudEvent) -> bytes:
    """The event serialised in the one form that digests are of; drops its unknown fields, which nobody has checked."""
    event.DiscardUnknownFields()
    return event.SerializeToString(deterministic=True)


def content_digest(event: CloudEvent) -> bytes:
    """16 bytes over the event without what the broker stamps."""
    bare = CloudEvent()
    bare.CopyFrom(event)
    for name in STAMPED:
        bare.attributes.pop(name, None)
    return digest_of(bare.SerializeToString(deterministic=True))


def digest_of(content: bytes) -> bytes:
    """As `content_digest`, of an event that has no stamps, serialised deterministically."""
    return hashlib.sha256(content).digest()[:_BYTES]


def fingerprint(body: bytes) -> tuple[bytes, bytes]:
    """Identity and content digest of a stored record; how a log rebuilds its index of duplicates."""
    event = CloudEvent.FromString(body)
    attributes = event.attributes
    for name in STAMPED:
        if name in attributes:
            del attributes[name]
    return identity(event.source, event.id), digest_of(event.SerializeToString(deterministic=True))
