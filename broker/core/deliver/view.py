"""Stored records parsed once for all groups that read them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from broker.core.overlay.notice import Notice, read_notice
from broker.core.record.envelope import instant_ms_attribute, read_labels, source_agency, text_attribute
from broker.core.record.fingerprint import identity
from broker.model.labels import Labels
from broker.model.record import StoredRecord
from broker.model.registry import RecordType, Registry
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

log = logging.getLogger(__name__)

_VIEW_OVERHEAD_BYTES = 1_500
"""What a view takes besides its record's bytes: the parsed event, the places in tables."""

_SET_OVERHEAD_BYTES, _BYTES_PER_CHARACTER = 1_000, 20
"""What a label set takes: a list of short words costs a multiple of its text."""

_LABELS = ("dataclassification", "dataregulation", "datacategory", "purposes", "releasableto")


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """All that decisions depend on in a record; one object for all records that share it, compared by identity."""

    record_type: RecordType
    owner: str
    labels: Labels


@dataclass(frozen=True, slots=True, eq=False)
class RecordView:
    """One stored record; `label_set` is None when the present revision cannot place it, and then it is withheld.

    identity: see broker.core.record.fingerprint. notice: that of a withdrawal, if it is one; then it has no label set.
    """

    stored: StoredRecord
    event: CloudEvent
    label_set: LabelSet | None
    expires_ms: int | None
    identity: bytes = b""
    notice: Notice | None = None


class RecordViews:
    """A bounded cache of views by place, and the interned label sets of one revision."""

    def __init__(
        self, registry: Registry, *, limit_bytes: int = 64 << 20, limit_label_bytes: int = 64 << 20
    ) -> None:
        self._registry = registry
        self._views: OrderedDict[tuple[str, int, int], RecordView] = OrderedDict()
        self._bytes = 0
        self._limit_bytes = limit_bytes
        self._label_sets: dict[tuple[str | None, ...], LabelSet | None] = {}
        self._label_bytes = 0
        self._limit_label_bytes = limit_label_bytes

    def view(self, topic: str, stored: StoredRecord) -> RecordView:
        """The record's view, from the cache if another group has read it lately."""
        key = (topic, stored.partition, stored.offset)
        cached = self._views.get(key)
        # The bytes are compared by identity or value: a topic that was made anew has the same places.
        if cached is not None and cached.stored.body == stored.body:
            return cached
        view = self._parse(stored)
        self._remember(key, view)
        return view

    def _parse(self, stored: StoredRecord) -> RecordView:
        try:
            event = CloudEvent.FromString(stored.body)
            expires_ms = instant_ms_attribute(event, "expirytime")
        except (DecodeError, ValueError):
            # Not stored by an exchange: withheld, so that it stops no stream.
            log.error("a stored record is no event: partition=%d offset=%d", stored.partition, stored.offset)
            return RecordView(stored, CloudEvent(), None, None)
        if (notice := read_notice(event)) is not None:
            return RecordView(stored, event, None, None, notice=notice)
        named = identity(event.source, event.id)
        return RecordView(stored, event, self._label_set(event), expires_ms, named)

    def _label_set(self, event: CloudEvent) -> LabelSet | None:
        owner = source_agency(event.source)
        key = (event.type, owner, *(_label_text(event, name) for name in _LABELS))
        if key not in self._label_sets:
            size_bytes = _SET_OVERHEAD_BYTES + _BYTES_PER_CHARACTER * sum(len(text or "") for text in key)
            if self._label_bytes + size_bytes > self._limit_label_bytes:
                self._label_sets.clear()
                self._label_bytes = 0
            self._label_bytes += size_bytes
            self._label_sets[key] = self._intern(event, owner)
        return self._label_sets[key]

    def _intern(self, event: CloudEvent, owner: str | None) -> LabelSet | None:
        record_type = self._registry.record_types.get(event.type)
        if record_type is None or owner is None or owner not in self._registry.agencies:
            return None
        try:
            return LabelSet(record_type, owner, read_labels(event))
        except ValueError:
            return None

    def _remember(self, key: tuple[str, int, int], view: RecordView) -> None:
        replaced = self._views.pop(key, None)
        self._bytes += _size(view) - (_size(replaced) if replaced else 0)
        self._views[key] = view
        while self._bytes > self._limit_bytes and self._views:
            _, oldest = self._views.popitem(last=False)
            self._bytes -= _size(oldest)


def _label_text(event: CloudEvent, name: str) -> str | None:
    """None where there is no such label; "", which no good label is, where it is no text."""
    return (text_attribute(event, name) or "") if name in event.attributes else None


def _size(view: RecordView) -> int:
    return len(view.stored.body) + _VIEW_OVERHEAD_BYTES
