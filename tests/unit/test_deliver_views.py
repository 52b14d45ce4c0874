"""Views of stored records: label sets are told apart by all that is in the labels, and caches are bounded in bytes."""

from __future__ import annotations

import pytest

from broker.core.deliver.view import RecordView, RecordViews
from broker.core.deliver.wire import Encoded
from broker.model.record import StoredRecord
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, registry


def an_event(**labels: str) -> CloudEvent:
    event = CloudEvent(id="1", source="//alpha/x", spec_version="1.0", type=TYPE, text_data="1")
    for name, value in {"dataclassification": "green", **labels}.items():
        event.attributes[name].ce_string = value
    return event


def view_of(views: RecordViews, event: CloudEvent, offset: int = 0) -> RecordView:
    return views.view(TOPIC, StoredRecord(0, offset, 0, event.SerializeToString(deterministic=True)))


def test_a_label_that_is_no_text_is_not_taken_for_one_that_is_absent() -> None:
    """Else what a record without `releasableto` may do would be done with one that is for somebody only."""
    views = RecordViews(registry())
    assert view_of(views, an_event()).label_set is not None
    restricted = an_event()
    restricted.attributes["releasableto"].ce_bytes = b"beta"
    assert view_of(views, restricted, 1).label_set is None


def test_equal_labels_share_one_set() -> None:
    views = RecordViews(registry())
    first, second = (view_of(views, an_event(releasableto="beta,gamma"), offset) for offset in (0, 1))
    assert first.label_set is second.label_set


def test_endless_label_sets_take_bounded_memory() -> None:
    views = RecordViews(registry(), limit_label_bytes=100_000)
    for number in range(1_000):
        names = ",".join(f"a{number}-{n}" for n in range(100))
        assert view_of(views, an_event(releasableto=names), number).label_set is not None
    assert len(views._label_sets) < 100


def test_small_records_count_with_what_their_views_take() -> None:
    views = RecordViews(registry(), limit_bytes=100_000)
    for offset in range(1_000):
        view_of(views, an_event(), offset)
    assert len(views._views) < 100


def entry(name: str, value: bytes) -> bytes:
    """An encoded attribute with this encoded value."""
    return b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(value)]) + value


def stored(*entries: bytes, begin: bytes = b"") -> StoredRecord:
    """A record with these encoded attributes, behind what a record needs."""
    event = CloudEvent(id="1", source="//alpha/x", spec_version="1.0", type=TYPE, text_data="1")
    attributes = b"".join(b"\x2a" + bytes([len(each)]) + each for each in entries)
    return StoredRecord(0, 0, 0, begin + event.SerializeToString() + attributes)


GREEN = entry("dataclassification", b"\x1a\x05green")
FOREIGN = {
    "a label that readers take for another": (
        entry("releasableto", b"\x1a\x04beta").replace(b"\x12", b"\x0a\x01x\x12", 1),
    ),
    "a label that is no message": (entry("purposes", b"\xff\xff"),),
    "a label that is no UTF-8": (entry("purposes", b"\x1a\x01\xff"),),
    "an expiry that is no instant": (entry("expirytime", b"\x1a\x01x"),),
    "an expiry that readers take for another": (
        entry("expirytime", b"\x1a\x142030-01-01T00:00:00Z").replace(b"\x12", b"\x0a\x01x\x12", 1),
    ),
    "a time that readers take for another": (
        entry("time", b"\x1a\x01x").replace(b"\x12", b"\x0a\x06authid\x12", 1),
    ),
    "a schema that is no UTF-8": (entry("dataschema", b"\x1a\x01\xff"),),
    "an attribute without a name": (b"",),
}


def test_what_is_made_by_hand_here_is_placed() -> None:
    assert RecordViews(registry()).view(TOPIC, stored(GREEN)).label_set is not None


@pytest.mark.parametrize("entries", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_no_exchange_stores_is_placed_nowhere(entries: tuple[bytes, ...]) -> None:
    assert RecordViews(registry()).view(TOPIC, stored(GREEN, *entries)).label_set is None


@pytest.mark.parametrize("field", [b"\x0a", b"\x12", b"\x22"], ids=["id", "source", "type"])
def test_a_core_attribute_that_is_no_text_is_placed_nowhere(field: bytes) -> None:
    record = stored(GREEN)
    body = record.body + field + b"\x0b//alpha/x\xff\xff"
    assert RecordViews(registry()).view(TOPIC, record._replace(body=body)).label_set is None


def test_what_goes_out_counts_with_its_view() -> None:
    views = RecordViews(registry(), limit_bytes=10_000)
    kept = view_of(views, an_event())
    views.keep(kept, 1, Encoded(bytes(9_000), b""))
    assert kept.encoded[1].entry == bytes(9_000)
    assert not views._views
    assert views._bytes == 0
    views.keep(kept, 2, Encoded(bytes(9_000), b""))
    assert views._bytes == 0
