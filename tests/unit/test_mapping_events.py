"""Records that are CloudEvents already are kept, in both modes of the Kafka binding; labels are not theirs to set."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cloudevents import to_json_event
from connectors.mapping.mapper import Mapper
from connectors.mapping.record import AgencyRecord, Unmappable
from connectors.mapping.settings import MappingSettings
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

JSON_EVENT = [("content-type", b"application/cloudevents+json; charset=utf-8")]
BINARY = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"17"),
    ("ce_source", b"//police/crashes"),
    ("ce_type", b"gov.example.v1"),
]
KEPT = {"labels": {"dataclassification": "red"}}


def mapped(record: AgencyRecord, **changed: Any) -> CloudEvent:
    event = Mapper(MappingSettings.model_validate({**KEPT, **changed})).map(record)
    assert event is not None
    return event


def refused(record: AgencyRecord, **changed: Any) -> str:
    with pytest.raises(Unmappable) as told:
        mapped(record, **changed)
    return told.value.cause


def structured(members: dict[str, Any] | bytes, **changed: Any) -> AgencyRecord:
    core = {"specversion": "1.0", "id": "17", "source": "//police/crashes", "type": "gov.example.v1"}
    value = members if isinstance(members, bytes) else json.dumps({**core, **members}).encode()
    return AgencyRecord(b"k", value, **{"headers": JSON_EVENT, **changed})


def test_binary_mode_is_kept() -> None:
    headers = [
        *BINARY,
        ("ce_time", b"2026-01-31T12:00:00Z"),
        ("ce_subject", "Nordstraße 1".encode()),
        ("ce_partitionkey", b"p"),
        ("Content-Type", b"application/json"),
        ("other", b"\xff"),
    ]
    event = mapped(AgencyRecord(b"k", b'{"a":1.0}', headers, 5))
    assert to_json_event(event) == {
        "specversion": "1.0",
        "id": "17",
        "source": "//police/crashes",
        "type": "gov.example.v1",
        "time": "2026-01-31T12:00:00Z",
        "subject": "Nordstraße 1",
        "partitionkey": "p",
        "datacontenttype": "application/json",
        "dataclassification": "red",
        "data": {"a": 1.0},
    }
    assert event.attributes["time"].WhichOneof("attr") == "ce_timestamp"
    assert event.binary_data == b'{"a":1.0}'


def test_structured_json_is_kept_and_its_data_cut_out_as_they_are() -> None:
    data = '{ "n":12345678901234567890123, "x":1.50,"s":"\\u00e9"}'
    members = (
        '{"specversion":"1.0","id":"17","source":"//police/crashes","type":"t","flag":true,"count":3,"none":null, '
        f'"data" : {data} , "time":"2026-01-31T12:00:00Z"}}'
    )
    event = mapped(structured(members.encode()))
    assert event.binary_data == data.encode()
    assert event.attributes["flag"].ce_boolean is True
    assert event.attributes["count"].ce_integer == 3
    assert "none" not in event.attributes
    assert event.attributes["time"].ce_timestamp.seconds == 1_769_860_800


def test_structured_data_of_other_types() -> None:
    as_text = mapped(structured({"datacontenttype": "text/plain", "data": "héllo"}))
    assert as_text.text_data == "héllo"
    as_bytes = mapped(
        structured({"datacontenttype": "image/png", "data_base64": base64.b64encode(b"\x89P").decode()})
    )
    assert as_bytes.binary_data == b"\x89P"
    assert mapped(structured({"data": "text as JSON"})).binary_data == b'"text as JSON"'
    assert mapped(structured({})).binary_data == b""


def test_paths_read_the_events_data_and_attributes_are_reached_by_name() -> None:
    event = mapped(
        structured({"data": {"tlp": "amber"}, "tlp": "green", "unit": "u7"}),
        labels={"dataclassification": {"path": "$.tlp"}},
        subject={"attribute": "unit"},
    )
    assert event.attributes["dataclassification"].ce_string == "amber"
    assert event.attributes["subject"].ce_string == "u7"


def test_the_protobuf_format_is_kept() -> None:
    original = CloudEvent(spec_version="1.0", id="17", source="//police/x", type="t", text_data="{}")
    original.attributes["count"].ce_integer = 4
    original.attributes["raw"].ce_bytes = b"\x00"
    headers = [("content-type", b"application/cloudevents+protobuf")]
    event = mapped(AgencyRecord(None, original.SerializeToString(), headers))
    assert (event.id, event.source, event.type, event.text_data) == ("17", "//police/x", "t", "{}")
    assert event.attributes["count"].ce_integer == 4
    assert event.attributes["raw"].ce_bytes == b"\x00"


@pytest.mark.parametrize(
    "label", ["dataclassification", "dataregulation", "datacategory", "purposes", "releasableto"]
)
def test_a_producer_cannot_smuggle_a_label_in(label: str) -> None:
    for record in (
        AgencyRecord(None, b"{}", [*BINARY, (f"ce_{label}", b"green")]),
        structured({label: "green"}),
    ):
        event = mapped(record)
        assert event.attributes["dataclassification"].ce_string == "red"
        assert label == "dataclassification" or label not in event.attributes


def test_a_label_comes_from_an_attribute_if_the_mapping_says_so() -> None:
    chosen = {"dataclassification": {"attribute": "dataclassification", "table": {"green": "green"}}}
    record = AgencyRecord(None, b"{}", [*BINARY, ("ce_dataclassification", b"green")])
    assert mapped(record, labels=chosen).attributes["dataclassification"].ce_string == "green"
    assert "UNMAPPED" in refused(AgencyRecord(None, b"{}", BINARY), labels=chosen)


def test_what_only_the_exchange_sets_is_left_out() -> None:
    stamped = [("ce_recordedtime", b"2026-01-31T12:00:00Z"), ("ce_authid", b"ems/me")]
    assert not {"recordedtime", "authid"} & set(
        mapped(AgencyRecord(None, b"{}", [*BINARY, *stamped])).attributes
    )


def test_the_mapping_goes_before_what_the_event_says() -> None:
    event = mapped(
        structured({"subject": "s", "time": "2026-01-31T12:00:00Z"}), id="x", subject="mine", type="t2"
    )
    assert (event.id, event.type, event.source) == ("x", "t2", "//police/crashes")
    assert event.attributes["subject"].ce_string == "mine"


def test_events_can_be_taken_as_plain_values() -> None:
    record = structured({"data": {}}, origin={"topic": "t"})
    event = mapped(record, cloudevents="ignore", type="t", source="//police/x")
    assert event.binary_data == record.value
    assert event.id != "17"


def test_what_is_no_event_has_no_type_unless_configured() -> None:
    assert refused(AgencyRecord(None, b"{}")).startswith("UNMAPPED: type")


@pytest.mark.parametrize(
    "headers",
    [
        BINARY[1:],
        [("ce_specversion", b"0.3"), *BINARY[1:]],
        [*BINARY, ("ce_id", b"18")],
        [*BINARY, ("ce_time", b"yesterday")],
        [*BINARY, ("ce_expirytime", b"2026-13-01T00:00:00Z")],
        [*BINARY, ("ce_Bad-Name", b"x")],
        [*BINARY, ("ce_empty", b"")],
        [*BINARY, ("ce_x", b"\xff")],
        [*BINARY, ("ce_data", b"\xff")],
    ],
    ids=repr,
)
def test_an_invalid_event_in_binary_mode_is_refused(headers: list[tuple[str, bytes]]) -> None:
    assert refused(AgencyRecord(None, b"{}", headers)).split(":")[0] in ("CLOUDEVENT_INVALID", "UNMAPPED")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b'{"specversion":"1.0"',
        b'{"specversion":"1.0","specversion":"1.0"}',
        b'{"specversion":"1.0","data":{"a":1,"a":2},"id":"1","source":"//p/","type":"t"}',
        b'{"specversion":"1.0","id":NaN}',
        b'{"specversion":"1.0","id":17,"source":"//p/","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"//p/","type":"t","x":[1]}',
        b'{"specversion":"1.0","id":"1","source":"//p/","type":"t","x":1.5}',
        b'{"specversion":"1.0","id":"1","source":"//p/","type":"t","x":9999999999}',
        b'{"specversion":"1.0","id":"1","source":"//p/","type":"t","data_base64":"?"}',
        b'{"specversion":"1.0","id":"1","source":"//p/","type":"t","data_base64":"","data":1}',
        b"[" * 5_000,
    ],
    ids=lambda value: repr(value[:40]),
)
def test_an_invalid_event_in_structured_mode_is_refused(value: bytes) -> None:
    assert refused(structured(value)).startswith("CLOUDEVENT_INVALID: ")


@pytest.mark.parametrize("form", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_other_formats_are_refused(form: str) -> None:
    assert refused(structured({}, headers=[("content-type", form.encode())])).startswith(
        "CLOUDEVENT_INVALID: "
    )


def test_bytes_that_are_no_protobuf_event_are_refused() -> None:
    headers = [("content-type", b"application/cloudevents+protobuf")]
    assert refused(AgencyRecord(None, b"\xff\xff", headers)).startswith("CLOUDEVENT_INVALID: ")


@given(
    st.dictionaries(
        st.text(max_size=6), st.none() | st.integers() | st.text(max_size=6) | st.booleans(), max_size=5
    ),
    st.sampled_from([None, 0, 2]),
)
def test_data_survive_any_surroundings(data: dict[str, Any], indent: int | None) -> None:
    written = json.dumps(data, indent=indent, ensure_ascii=False)
    around = (
        '{"a":"\\"data\\":{}","specversion":"1.0","id":"1","source":"//p/","type":"t","data":%s ,"z":"}"}'
    )
    assert mapped(structured((around % written).encode())).binary_data.decode() == written
