"""Stored records read once for all groups that deliver them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from google.protobuf.message import DecodeError

from broker.core.deliver.wire import Encoded, event_attribute
from broker.core.overlay.notice import SOURCE, Notice, read_notice
from broker.core.record.envelope import instant_ms_attribute, read_labels, source_agency
from broker.core.record.fingerprint import identity
from broker.core.record.outline import Outline, entries_by_name, is_named, read_outline, with_attributes
from broker.model.labels import Labels
from broker.model.record import StoredRecord
from broker.model.registry import RecordType, Registry
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

log = logging.getLogger(__name__)

_VIEW_OVERHEAD_BYTES = 1_000
"""What a view takes besides its record's bytes: itself, the places in tables."""

_ENCODED_OVERHEAD_BYTES = 200
"""What is kept for a treatment besides what is handed out."""

_SET_OVERHEAD_BYTES, _BYTES_PER_CHARACTER = 1_000, 20
"""What a label set takes: a list of short words costs a multiple of its text."""

_LABELS = ("dataclassification", "dataregulation", "datacategory", "purposes", "releasableto")
VISIBLE = tuple(
    (name, name.encode()) for name in ("dataclassification", "datacontenttype", "dataschema", "time")
)
"""Attributes that reach every consumer, beside id, source, type and specversion (design, Records); sorted."""

_Label = bytes | None
_Key = tuple[bytes, str | None, _Label, _Label, _Label, _Label, _Label]
"""The record's type, its owner, and its labels as they are encoded."""

_WITHDRAWALS = SOURCE.encode()


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """All that decisions depend on in a record; one object for all records that share it, compared by identity.

    marked: the attributes that the record's type marks, as they stand in outlines.
    """

    record_type: RecordType
    owner: str
    labels: Labels
    marked: frozenset[bytes]


@dataclass(slots=True, eq=False)
class RecordView:
    """One stored record; `label_set` is None when the present revision cannot place it, and then it is withheld.

    visible: the attributes that reach every consumer, as an event holds them. is_marked: whether it has some that its type
    marks. notice: that of a withdrawal, if it is one; then it has no label set. encoded: what goes out of it, by the number
    of the treatment. is_kept, size_bytes: for the cache that it is from.
    """

    stored: StoredRecord
    label_set: LabelSet | None
    visible: bytes = b""
    is_marked: bool = False
    expires_ms: int | None = None
    notice: Notice | None = None
    encoded: dict[int, Encoded] = field(default_factory=dict)
    is_kept: bool = False
    size_bytes: int = 0

    @property
    def outline(self) -> Outline:
        """Read anew each time: held by each view it would take more memory than the record, which costs more."""
        return read_outline(self.stored.body)

    @property
    def identity(self) -> bytes:
        """See broker.core.record.fingerprint."""
        outline = self.outline
        return identity(outline.source.decode(), outline.id.decode())


class RecordViews:
    """A bounded cache of views by place, and the interned label sets of one revision."""

    def __init__(
        self, registry: Registry, *, limit_bytes: int = 128 << 20, limit_label_bytes: int = 64 << 20
    ) -> None:
        """limit_bytes: of the views, with what is kept of them encoded. limit_label_bytes: of the label sets."""
        self._registry = registry
        self._views: OrderedDict[tuple[str, int, int], RecordView] = OrderedDict()
        self._bytes = 0
        self._limit_bytes = limit_bytes
        self._label_sets: dict[_Key, LabelSet | None] = {}
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

    def keep(self, view: RecordView, treatment: int, encoded: Encoded) -> None:
        """Have other groups find what goes out of the record under a treatment of this number."""
        view.encoded[treatment] = encoded
        if view.is_kept:
            self._grow(view, len(encoded.entry) + _ENCODED_OVERHEAD_BYTES)

    def _parse(self, stored: StoredRecord) -> RecordView:
        try:
            outline = read_outline(stored.body)
            outline.id.decode()
            if outline.source == _WITHDRAWALS:
                return RecordView(stored, None, notice=read_notice(CloudEvent.FromString(stored.body)))
            attributes = entries_by_name(outline)
            label_set = self._label_set(outline, attributes)
            expires_ms = _expires_ms(attributes) if b"expirytime" in attributes else None
            visible = _visible(attributes)
        except (DecodeError, ValueError):
            # Not stored by an exchange: withheld, so that it stops no stream.
            log.error("a stored record is no event: partition=%d offset=%d", stored.partition, stored.offset)
            return RecordView(stored, None)
        is_marked = label_set is not None and not label_set.marked.isdisjoint(attributes)
        return RecordView(stored, label_set, visible, is_marked, expires_ms)

    def _label_set(self, outline: Outline, attributes: Mapping[bytes, bytes]) -> LabelSet | None:
        owner = _owner(outline.source)
        find = attributes.get
        key = (
            outline.type,
            owner,
            find(b"dataclassification"),
            find(b"dataregulation"),
            find(b"datacategory"),
            find(b"purposes"),
            find(b"releasableto"),
        )
        try:
            return self._label_sets[key]
        except KeyError:
            return self._intern(key)

    def _intern(self, key: _Key) -> LabelSet | None:
        size_bytes = _SET_OVERHEAD_BYTES + _BYTES_PER_CHARACTER * sum(len(each or "") for each in key)
        if self._label_bytes + size_bytes > self._limit_label_bytes:
            self._label_sets.clear()
            self._label_bytes = 0
        self._label_bytes += size_bytes
        type_name, owner, *labels = key
        found = self._label_sets[key] = self._placed(type_name, owner, labels)
        return found

    def _placed(self, type_name: bytes, owner: str | None, labels: list[_Label]) -> LabelSet | None:
        """From nothing but the key: what is not in it can make no difference."""
        present = {name: label for name, label in zip(_LABELS, labels, strict=True) if label is not None}
        try:
            event = with_attributes(present.values())
            record_type = self._registry.record_types.get(type_name.decode())
            if record_type is None or owner is None or owner not in self._registry.agencies:
                return None
            if set(event.attributes) != set(present):
                return None
            marked = frozenset(name.encode() for name in record_type.attributes)
            return LabelSet(record_type, owner, read_labels(event), marked)
        except (DecodeError, ValueError):
            return None

    def _remember(self, key: tuple[str, int, int], view: RecordView) -> None:
        replaced = self._views.pop(key, None)
        if replaced is not None:
            self._forget(replaced)
        self._views[key] = view
        view.is_kept = True
        self._grow(view, len(view.stored.body) + _VIEW_OVERHEAD_BYTES)

    def _grow(self, view: RecordView, size_bytes: int) -> None:
        view.size_bytes += size_bytes
        self._bytes += size_bytes
        while self._bytes > self._limit_bytes and self._views:
            self._forget(self._views.popitem(last=False)[1])

    def _forget(self, view: RecordView) -> None:
        view.is_kept = False
        self._bytes -= view.size_bytes


def _visible(attributes: Mapping[bytes, bytes]) -> bytes:
    """Those of VISIBLE, as an event holds them; raises ValueError if one is not what its name says."""
    find = attributes.get
    alike = _joined_alike(find(b"dataclassification"), find(b"datacontenttype"), find(b"dataschema"))
    time = find(b"time")
    return alike if time is None else alike + _joined(None, None, None, time)


def _joined(*entries: bytes | None) -> bytes:
    named = [(entry, name) for entry, (name, _) in zip(entries, VISIBLE, strict=False) if entry is not None]
    if not all(is_named(entry, name) for entry, name in named):
        raise ValueError("an attribute is not what its name says")
    return b"".join(event_attribute(entry) for entry, _ in named)


_joined_alike = lru_cache(maxsize=256)(_joined)
"""Without the time these are the same in most records that follow each other."""


def _expires_ms(attributes: Mapping[bytes, bytes]) -> int:
    """Raises ValueError, or DecodeError, where it is no instant."""
    expires_ms = instant_ms_attribute(with_attributes((attributes[b"expirytime"],)), "expirytime")
    if expires_ms is None:
        raise ValueError("an attribute is not what its name says")
    return expires_ms


@lru_cache(maxsize=4_096)
def _owner(source: bytes) -> str | None:
    """Raises ValueError for what is no text."""
    return source_agency(source.decode())
