"""Views of stored records: label sets are told apart by all that is in the labels, and caches are bounded in bytes."""

from __future__ import annotations

from broker.core.deliver.view import RecordView, RecordViews
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
