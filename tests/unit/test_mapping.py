"""An agency's record becomes a CloudEvent as configured, the same bytes always, or is refused without its content."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.cloudevents import to_json_event
from connectors.mapping.mapper import Mapper
from connectors.mapping.record import AgencyRecord, Unmappable, stable_id
from connectors.mapping.settings import MappingSettings
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

ORIGIN = {"cluster": "a", "topic": "crashes", "partition": "0", "offset": "7"}
CANARY = "canary-7d1f"
BASE: dict[str, Any] = {
    "type": "gov.example.v1",
    "source": "//police/crashes",
    "labels": {"dataclassification": {"path": "$.tlp", "table": {"RED": "red", "AMBER": "amber"}}},
}


def mapper(**changed: Any) -> Mapper:
    settings = {**BASE, **changed}
    return Mapper(
        MappingSettings.model_validate({key: value for key, value in settings.items() if value is not None})
    )


def a_record(value: Any = None, **changed: Any) -> AgencyRecord:
    data = value if isinstance(value, bytes) else orjson.dumps({"tlp": "RED"} if value is None else value)
    return AgencyRecord(
        **{"key": b"k", "value": data, "timestamp_ms": 1_700_000_000_000, "origin": ORIGIN, **changed}
    )


def mapped(record: AgencyRecord, **changed: Any) -> CloudEvent:
    event = mapper(**changed).map(record)
    assert event is not None
    return event


def cause(record: AgencyRecord, **changed: Any) -> str:
    with pytest.raises(Unmappable) as refused:
        mapper(**changed).map(record)
    assert "\n" not in refused.value.cause
    return refused.value.cause


def text(event: CloudEvent, name: str) -> str | None:
    return event.attributes[name].ce_string if name in event.attributes else None


def labels(**changed: Any) -> dict[str, Any]:
    return {"dataclassification": "amber", **changed}


def test_each_place_of_a_value() -> None:
    event = mapped(
        a_record(
            {
                "tlp": "RED",
                "report": {"number": 17},
                "when": "2026-01-31T12:00:00.5+01:00",
                "for": ["ems", "fire"],
            },
            headers=[("region", b"north"), ("unused", b"\xff")],
            origin={"file": "a.json"},
        ),
        id={"path": "$.report.number"},
        subject={"header": "region"},
        partition_key={"key": True},
        time={"path": "$.when"},
        labels={**BASE["labels"], "releasableto": {"path": "$.for"}, "purposes": ["a", "b"]},
        attributes={"origin": {"file": True}, "count": {"path": "$.report.number"}},
    )
    assert to_json_event(event) == {
        "specversion": "1.0",
        "id": "17",
        "source": "//police/crashes",
        "type": "gov.example.v1",
        "datacontenttype": "application/json",
        "time": "2026-01-31T11:00:00.500Z",
        "subject": "north",
        "partitionkey": "k",
        "dataclassification": "red",
        "releasableto": "ems,fire",
        "purposes": "a,b",
        "origin": "a.json",
        "count": 17,
        "data": json.loads(event.binary_data),
    }


def test_data_are_the_bytes_that_were_there() -> None:
    data = b'{ "tlp":"RED", "n": 12345678901234567890123, "x":1.50 }'
    assert mapped(a_record(data)).binary_data == data


def test_without_id_and_time_the_origin_and_the_records_timestamp_count() -> None:
    event = mapped(a_record())
    assert event.id == stable_id(a_record())
    assert event.attributes["time"].ce_timestamp.ToMilliseconds() == 1_700_000_000_000
    assert "time" not in mapped(a_record(timestamp_ms=None)).attributes
    assert "time" not in mapped(a_record(timestamp_ms=-1)).attributes
    last_ms = 253_402_300_799_999
    stamp = mapped(a_record(timestamp_ms=last_ms)).attributes["time"].ce_timestamp
    assert stamp.ToJsonString() == "9999-12-31T23:59:59.999Z"
    assert "9999" in cause(a_record(timestamp_ms=last_ms + 1))


def test_stable_ids_differ_by_origin_and_incarnation() -> None:
    records = [
        a_record(),
        a_record(origin={**ORIGIN, "offset": "8"}),
        a_record(origin={**ORIGIN, "topic": "crashes0", "partition": ""}),
        a_record(incarnation="topic-id-2"),
        a_record(origin={"a": "bc"}),
        a_record(origin={"ab": "c"}),
    ]
    assert len({stable_id(record) for record in records}) == len(records)
    assert stable_id(a_record(value={"tlp": "AMBER"}, timestamp_ms=1)) == stable_id(a_record())


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"tlp": None},
        {"tlp": ""},
        {"tlp": 1.5},
        {"tlp": {"a": 1}},
        {"tlp": ["RED"]},
        {"tlp": "PURPLE " + CANARY},
        [],
        b"no JSON " + CANARY.encode(),
        b"",
        b'{"tlp":"RED","tlp":"AMBER"}',
        b'{"tlp":"RED","\\u0074lp":"AMBER"}',
        b'{"tlp":"AMBER"}\xff',
    ],
    ids=repr,
)
def test_a_record_without_a_clear_label_is_refused(document: Any) -> None:
    told = cause(a_record(document))
    assert told.startswith("UNMAPPED: ")
    assert CANARY not in told


def test_a_default_fills_what_is_missing_and_what_the_table_does_not_know() -> None:
    value = {"path": "$.tlp", "table": {"GREEN": "green"}, "default": "red"}
    for document in ({}, {"tlp": None}, {"tlp": "?"}):
        assert (
            text(mapped(a_record(document), labels={"dataclassification": value}), "dataclassification")
            == "red"
        )
    assert (
        text(mapped(a_record({"tlp": "GREEN"}), labels={"dataclassification": value}), "dataclassification")
        == "green"
    )


def test_a_table_knows_numbers_and_truth_values_by_their_json_text() -> None:
    value = {"path": "$.secret", "table": {"true": "red", "3": "amber"}}
    assert (
        text(mapped(a_record({"secret": True}), labels={"dataclassification": value}), "dataclassification")
        == "red"
    )
    assert (
        text(mapped(a_record({"secret": 3}), labels={"dataclassification": value}), "dataclassification")
        == "amber"
    )
    assert "neither text" in cause(a_record({"tlp": True}), labels={"dataclassification": {"path": "$.tlp"}})


def test_several_values_only_where_a_label_takes_them() -> None:
    people = {"people": [{"unit": "ems"}, {"unit": "fire"}, {"unit": "ems"}]}
    several = labels(releasableto={"path": "$.people[*].unit"})
    assert text(mapped(a_record(people), labels=several), "releasableto") == "ems,fire"
    one = {"dataclassification": {"path": "$.people[*].unit"}}
    assert "more than one value" in cause(a_record(people), labels=one)
    assert "more than one value" in cause(
        a_record({**people, "tlp": "RED"}), subject={"path": "$.people[*].unit"}
    )


@pytest.mark.parametrize(
    "units", [["ems", ""], ["ems", None], "ems,,fire", [], "", ["ems", 1.5], [["ems"]]], ids=repr
)
def test_a_list_with_an_empty_or_unreadable_word_is_refused(units: Any) -> None:
    assert "labels.releasableto" in cause(a_record({"u": units}), labels=labels(releasableto={"path": "$.u"}))


def test_words_of_a_list_in_a_header_are_separated_by_commas_and_looked_up_each() -> None:
    chosen = labels(purposes={"header": "why", "table": {"a": ["x", "y"], "b": "z"}})
    assert text(mapped(a_record(headers=[("why", b"a,b")]), labels=chosen), "purposes") == "x,y,z"
    assert "table does not know" in cause(a_record(headers=[("why", b"a,c")]), labels=chosen)


def test_a_header_there_twice_or_not_in_utf8_is_refused() -> None:
    for headers in ([("h", b"red"), ("h", b"green")], [("h", b"\xff")]):
        assert "header h" in cause(a_record(headers=headers), labels={"dataclassification": {"header": "h"}})
    assert "no value" in cause(
        a_record(headers=[("h", None)]), labels={"dataclassification": {"header": "h"}}
    )


def test_fractions_and_numbers_beyond_64_bits_make_no_id() -> None:
    for number in (b"1.5", b"123456789012345678901234567890", b"1e3"):
        assert "whole number" in cause(a_record(b'{"tlp":"RED","id":%s}' % number), id={"path": "$.id"})
    assert mapped(a_record({"tlp": "RED", "id": 2**63}), id={"path": "$.id"}).id == str(2**63)


def test_what_may_be_left_out_says_so() -> None:
    assert "partition_key" in cause(a_record(key=None), partition_key={"key": True})
    assert (
        "partitionkey"
        not in mapped(a_record(key=None), partition_key={"key": True, "required": False}).attributes
    )
    assert "the record's key is no UTF-8 text" in cause(a_record(key=b"\xff"), partition_key={"key": True})
    late = {"path": "$.when", "required": False}
    assert mapped(a_record(), time=late).attributes["time"].ce_timestamp.seconds == 1_700_000_000
    assert "time" in cause(a_record(), time={"path": "$.when"})


@pytest.mark.parametrize(
    ("form", "when", "seconds"),
    [("epoch-s", 1_700_000_000, 1_700_000_000), ("epoch-ms", "1700000000000", 1_700_000_000)],
)
def test_a_time_is_read_as_configured(form: str, when: Any, seconds: int) -> None:
    event = mapped(a_record({"tlp": "RED", "when": when}), time={"path": "$.when", "format": form})
    assert event.attributes["time"].ce_timestamp.seconds == seconds


@pytest.mark.parametrize(
    "when", ["2026-02-31T00:00:00Z", "2026-01-31 12:00:00", "2026-01-31T12:00:00", 17, True, []]
)
def test_a_time_that_is_none_is_refused(when: Any) -> None:
    assert "time" in cause(a_record({"tlp": "RED", "when": when}), time={"path": "$.when"})


def test_an_epoch_beyond_the_calendar_is_refused() -> None:
    for when in (10**18, "x", -(10**18)):
        assert "time" in cause(
            a_record({"tlp": "RED", "when": when}), time={"path": "$.when", "format": "epoch-s"}
        )


def test_a_name_that_is_no_text_is_refused_not_sent_otherwise() -> None:
    record = a_record(origin={"file": "\udcff.json"})
    assert "half a character" in cause(record, subject={"file": True})
    assert mapped(record).id == stable_id(record)


def test_tombstones_are_refused_or_passed_over() -> None:
    assert cause(AgencyRecord(b"k", None)).startswith("TOMBSTONE: ")
    assert mapper(tombstones="skip").map(AgencyRecord(b"k", None)) is None


def test_a_path_does_not_leave_its_document() -> None:
    deep = b'{"tlp":' + b"[" * 400 + b"]" * 400 + b"}"
    assert "UNMAPPED" in cause(a_record(deep), labels={"dataclassification": {"path": "$..x"}})
    assert "UNMAPPED" in cause(a_record(b"[" * 100_000), labels={"dataclassification": {"path": "$..x"}})


def test_only_the_agencys_own_source_passes_the_start() -> None:
    assert mapper().source_findings("police") == []
    assert "//ems/" in mapper().source_findings("ems")[0]
    assert mapper(source={"path": "$.s", "default": "//ems/x"}).source_findings("police")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"labels": {}}, "dataclassification is missing"),
        ({"labels": labels(tlp="red")}, "tlp is no label"),
        ({"labels": {"dataclassification": ["red", "amber"]}}, "holds one word"),
        ({"labels": labels(purposes={"path": "$.p", "required": False})}, "widen"),
        ({"labels": {"dataclassification": {"path": "$.a", "header": "b"}}}, "exactly one"),
        ({"labels": {"dataclassification": {"path": "$.a["}}}, "no JSONPath"),
        ({"labels": {"dataclassification": ""}}, "empty text"),
        ({"attributes": {"purposes": "x"}}, "is a label"),
        ({"attributes": {"recordedtime": "x"}}, "set by the exchange"),
        ({"attributes": {"Not-Valid": "x"}}, "1 to 20"),
        ({"source": "police"}, "//your-agency/"),
        ({"type": None, "cloudevents": "ignore"}, "type is missing"),
        ({"time": {"header": "h", "default": "now"}}, "comes from the record"),
        ({"subject": {"header": ""}}, "at least 1"),
        ({"type": 3}, "a text in quotes, or a table"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told.replace("$", r"\$")):
        mapper(**changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["tlp", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=12,
)
RECORDS = st.builds(
    AgencyRecord,
    key=st.none() | st.binary(max_size=8),
    value=st.none() | st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()),
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "h",
                    "content-type",
                    "ce_specversion",
                    "ce_id",
                    "ce_type",
                    "ce_source",
                    "ce_time",
                    "ce_dataclassification",
                ]
            ),
            st.none()
            | st.binary(max_size=6)
            | st.sampled_from(
                [b"1.0", b"application/cloudevents+json", b"application/cloudevents+protobuf", b"red"]
            ),
        ),
        max_size=6,
    ),
    timestamp_ms=st.none() | st.integers(-1, 2**41),
    origin=st.dictionaries(st.sampled_from(["file", "topic", "offset"]), st.text(max_size=5), max_size=3),
)


@given(RECORDS)
def test_nothing_but_an_event_with_its_label_or_a_refusal_comes_out_and_always_the_same(
    record: AgencyRecord,
) -> None:
    chosen = mapper(
        labels={"dataclassification": {"path": "$.tlp"}, "purposes": {"path": "$..a", "default": "x"}},
        subject={"header": "h", "required": False},
        partition_key={"key": True, "required": False},
    )
    results = []
    for _ in range(2):
        try:
            event = chosen.map(record)
        except Unmappable as refused:
            results.append(refused.cause.encode())
            continue
        assert event is not None
        assert text(event, "dataclassification")
        assert event.id and event.source and event.type and event.spec_version == "1.0"
        # What is in the event is what is sent: it can be read back.
        body = event.SerializeToString(deterministic=True)
        assert CloudEvent.FromString(body) == event
        results.append(body)
    assert results[0] == results[1]


def test_the_pages_example_is_a_mapping() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "connectors.md").read_text()
    example = page.split("## Mapping\n")[1].split("```toml\n")[1].split("```")[0]
    chosen = Mapper(MappingSettings.model_validate(tomllib.loads(example)["connectors"]["crashes"]["map"]))
    document = {
        "report": {"number": "HP-1", "at": 1_700_000_000_000},
        "tlp": "?",
        "unit": "u7",
        "partners": [{"agency": "ems"}, {"agency": "transport"}],
    }
    event = chosen.map(a_record(document))
    assert event is not None
    assert (event.id, text(event, "dataclassification")) == ("HP-1", "red")
    assert text(event, "releasableto") == "ems,transport"


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(['"tlp"', '"\\u0074lp"', '"t\\u006cp"', '"a"', '"\\"tlp"', '"tlp\\\\"']),
        st.deferred(lambda: VALUES),
    ),
    max_size=4,
)
VALUES = st.sampled_from(['"red"', '"amber"', '"tlp"', '"\\u0074lp"', "1"]) | MEMBERS.map(
    lambda members: "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"
)


def has_a_member_twice(document: str) -> bool:
    twice = []

    def look(pairs: list[tuple[str, object]]) -> None:
        twice.append(len(dict(pairs)) < len(pairs))

    json.loads(document, object_pairs_hook=look)
    return any(twice)


@given(MEMBERS)
def test_no_label_is_read_from_one_of_two_members_of_its_name(members: list[tuple[str, str]]) -> None:
    data = "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"
    found = [value for name, value in members if json.loads(name) == "tlp"]
    chosen = mapper(labels={"dataclassification": {"path": "$.tlp"}})
    try:
        event = chosen.map(a_record(data.encode()))
    except Unmappable:
        # Never where all is clear.
        assert len(found) != 1 or found[0].startswith("{") or has_a_member_twice(data)
        return
    assert event is not None
    assert [text(event, "dataclassification")] == [str(json.loads(value)) for value in found]
