"""Records built and shown by the client, read back by the public CloudEvents SDK."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cloudevents import id_from, new_record, parse_time, to_json_event
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

LABELS = {"dataclassification": "amber", "purposes": ["a", "b"]}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def _record(**changes: object) -> CloudEvent:
    arguments = {
        "type": "t.v1",
        "source": "//ems/cli",
        "data": {"a": 1},
        "labels": LABELS,
        "id": "1",
    } | changes
    return new_record(**arguments)  # type: ignore[arg-type]


def test_the_public_sdk_reads_what_is_shown() -> None:
    when = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    record = _record(time=when, subject="s", partition_key="p", attributes={"count": 3, "flag": True})
    event = JSONFormat().read(None, json.dumps(to_json_event(record)))
    assert (event.get_id(), event.get_source(), event.get_type()) == ("1", "//ems/cli", "t.v1")
    assert event.get_time() == when
    assert event.get_subject() == "s"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("dataclassification") == "amber"
    assert event.get_extension("purposes") == "a,b"
    assert event.get_extension("partitionkey") == "p"
    assert (event.get_extension("count"), event.get_extension("flag")) == (3, True)
    assert event.get_data() == {"a": 1}


def test_bytes_that_are_not_json_are_base64_for_the_sdk_too() -> None:
    record = _record(data=b"\x00\xff", content_type="application/octet-stream")
    shown = to_json_event(record)
    assert shown["data_base64"] == base64.b64encode(b"\x00\xff").decode()
    assert "data" not in shown
    assert JSONFormat().read(None, json.dumps(shown)).get_data() == b"\x00\xff"


@given(JSON)
@settings(max_examples=60)
def test_json_data_survives_as_text_and_as_bytes(document: object) -> None:
    as_text = _record(data=document) if not isinstance(document, bytes) else _record()
    as_bytes = _record(data=json.dumps(document).encode())
    assert to_json_event(as_text)["data"] == document
    assert to_json_event(as_bytes)["data"] == document


@pytest.mark.parametrize("broken", [b"{", b"\xff", b"NaN", b"[" * 100_000])
def test_bytes_that_only_claim_to_be_json_are_shown_as_they_are(broken: bytes) -> None:
    assert to_json_event(_record(data=broken))["data_base64"] == base64.b64encode(broken).decode()


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/stix+json", "text/json"]
)
def test_every_json_media_type_counts(content_type: str) -> None:
    assert to_json_event(_record(content_type=content_type))["data"] == {"a": 1}


def test_text_of_another_media_type_stays_text() -> None:
    record = _record(content_type="text/plain")
    record.text_data = '{"a": 1}'
    assert to_json_event(record)["data"] == '{"a": 1}'


def test_each_attribute_type_has_its_json_form() -> None:
    record = _record(attributes={"when": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\x01"})
    record.attributes["dataschema"].ce_uri = "https://example.org/schema"
    record.attributes["ref"].ce_uri_ref = "/x"
    shown = to_json_event(record)
    assert (shown["when"], shown["raw"]) == ("2026-01-01T00:00:00Z", "AQ==")
    assert (shown["dataschema"], shown["ref"]) == ("https://example.org/schema", "/x")


def test_no_data_shows_no_data_member() -> None:
    record = _record()
    record.ClearField("text_data")
    assert not {"data", "data_base64"} & set(to_json_event(record))


def test_a_record_without_id_gets_one_of_its_own() -> None:
    assert _record(id=None).id != _record(id=None).id


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no zone"):
        _record(time=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_an_attribute_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        _record(attributes={"dataclassification": "clear"})


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31",
        "2026-01-31T12:00:00",
        "yesterday",
        "20260131T120000Z",
        "2026-01-31T12:00Z",
        "2026-02-31T12:00:00Z",
    ],
)
def test_only_a_time_with_zone_is_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_offsets_are_kept_as_instants() -> None:
    assert parse_time("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)


def test_an_id_is_the_same_for_the_same_key_only() -> None:
    assert id_from("crash", "4711") == id_from("crash", "4711")
    assert len({id_from("a", "bc"), id_from("ab", "c"), id_from("abc"), id_from("a", "b", "c")}) == 4
    assert len(id_from("ä")) == 32
