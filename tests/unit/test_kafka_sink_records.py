"""What the Kafka sink makes of what the exchange hands out: topics, partitions, keys, headers and contents."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2
from pydantic import ValidationError

from connectors.cloudevents import new_record
from connectors.delivery import Delivery
from connectors.kafka.dead_letters import decode_letter
from connectors.kafka.destinations import Destinations, NoDestination, agency_of, partition_of
from connectors.kafka.encoding import Encoder, Outgoing
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.places import decode_place, encode_place
from connectors.runtime.taken import Taken
from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.sink_kafka import delivered, portion_of, sink_settings

SECRET = "a-name-in-the-record"


def record(data: Any = None, **given_attributes: Any) -> CloudEvent:
    return new_record(
        type="gov.niem.crash.v1",
        source="//highway-patrol/crashes",
        id="r 1",
        data={"n": 1} if data is None else data,
        labels={"dataclassification": "green", "purposes": ["care", "ops"]},
        time=datetime(2026, 1, 31, 12, tzinfo=UTC),
        **given_attributes,
    )


def encoded(delivery: Delivery, **write: Any) -> list[Outgoing]:
    return Encoder(sink_settings(**write)).encode(delivery)


def withdrawal(source: str = "//highway-patrol/crashes") -> Delivery:
    told = pb.Withdrawal(source=source, id="r 1", type="gov.niem.crash.v1", owner="hp", reason="wrong")
    return Delivery(None, None, told, pb.Disclosure(), b"c", 10, 1)


def test_binary_mode_has_every_attribute_as_a_header_and_the_data_as_they_are() -> None:
    made = record(
        b'{"n": 1.10}',
        subject="Grüße",
        partition_key="k",
        attributes={
            "flag": True,
            "count": -3,
            "blob": b"\xff",
            "at": datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC),
        },
    )
    [written] = encoded(delivered(made))
    assert (written.topic, written.key, written.value) == (
        "in",
        b"//highway-patrol/crashes r 1",
        b'{"n": 1.10}',
    )
    assert dict(written.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"r 1",
        "ce_source": b"//highway-patrol/crashes",
        "ce_type": b"gov.niem.crash.v1",
        "content-type": b"application/json",
        "ce_dataclassification": b"green",
        "ce_purposes": b"care,ops",
        "ce_subject": "Grüße".encode(),
        "ce_partitionkey": b"k",
        "ce_time": b"2026-01-31T12:00:00.000Z",
        "ce_flag": b"true",
        "ce_count": b"-3",
        "ce_blob": b"/w==",
        "ce_at": b"2026-01-31T12:00:00.000001Z",
        "entente-effect": b"release",
        "entente-masked": b"criminal,pii",
        "entente-obligations": b"no-copy",
        "entente-receipt": base64.b64encode(b"receipt"),
    }


def test_a_record_without_data_is_no_tombstone() -> None:
    made = record()
    made.ClearField("data")
    for mode in ("binary", "structured"):
        [written] = encoded(delivered(made), mode=mode)
        assert written.value is not None
        assert "data" not in (json.loads(written.value) if mode == "structured" else {})


@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b'{"n": 1.10, "big": 123456789012345678901234567890}', "application/json", "as it is"),
        (b"text", "text/plain", {"data_base64": base64.b64encode(b"text").decode()}),
        (b'{"n": NaN}', "application/json", {"data_base64": base64.b64encode(b'{"n": NaN}').decode()}),
        (
            b'"},"id":"forged"',
            "application/json",
            {"data_base64": base64.b64encode(b'"},"id":"forged"').decode()},
        ),
    ],
)
def test_structured_mode_embeds_json_only_where_it_is_json(
    data: bytes, content_type: str, expected: Any
) -> None:
    [written] = encoded(delivered(record(data, content_type=content_type)), mode="structured")
    assert dict(written.headers)["content-type"] == b"application/cloudevents+json; charset=UTF-8"
    assert dict(written.headers)["entente-effect"] == b"release"
    event = json.loads(written.value or b"")
    assert (event["id"], event["time"]) == ("r 1", "2026-01-31T12:00:00Z")
    if expected == "as it is":
        assert b'"data":' + data in (written.value or b"")
    else:
        assert {name: value for name, value in event.items() if name.startswith("data")} == {
            "datacontenttype": content_type,
            "dataclassification": "green",
            **expected,
        }


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("record", b"//highway-patrol/crashes r 1"),
        ("source", b"//highway-patrol/crashes"),
        ("subject", b"s"),
        ("partitionkey", None),
    ],
)
def test_keys_and_tombstones(key: str, expected: bytes | None) -> None:
    [written] = encoded(delivered(record(subject="s")), key=key)
    assert written.key == expected
    assert written.place == (b"//highway-patrol/crashes r 1" if expected is None else None)
    topics = [(each.topic, each.value is None) for each in encoded(withdrawal(), key=key)]
    assert topics == ([("in", True)] if key == "record" else []) + [("notices", False)]


def test_a_withdrawal_without_tombstones_or_notices_writes_nothing_of_the_kind() -> None:
    assert [each.topic for each in encoded(withdrawal(), tombstones=False)] == ["notices"]
    assert [each.topic for each in encoded(withdrawal(), notice_topic=None)] == ["in"]
    assert encoded(withdrawal(), tombstones=False, notice_topic=None) == []


def test_a_tombstone_has_the_key_of_its_record_and_so_its_partition() -> None:
    [written], [tombstone, told] = encoded(delivered(record())), encoded(withdrawal())
    assert (tombstone.key, tombstone.value, tombstone.headers) == (written.key, None, [])
    assert json.loads(told.value or b"") == {
        "topic": "crash-reports",
        "purpose": "care",
        "source": "//highway-patrol/crashes",
        "id": "r 1",
        "type": "gov.niem.crash.v1",
        "owner": "hp",
        "contact": "",
        "reason": "wrong",
    }


def test_notices_and_changes_of_policy_go_to_their_topic_with_what_they_are() -> None:
    notice = pb.Notice(id="n-1", type="t", owner="hp", contact="hp@example.org")
    shown = pb.Disclosure(effect=pb.EFFECT_NOTICE)
    [told] = encoded(Delivery(None, notice, None, shown, b"c", 10, 1, b"r"))
    assert (told.topic, told.key) == ("notices", b"n-1")
    assert dict(told.headers)["entente-kind"] == b"notice"
    assert dict(told.headers)["entente-effect"] == b"notice"
    changed = Delivery(None, None, None, pb.Disclosure(), b"c", 0, 1, policy_change=pb.PolicyChange())
    [told] = encoded(changed)
    assert dict(told.headers)["entente-kind"] == b"policy-change"
    assert json.loads(told.value or b"") == {"topic": "crash-reports", "purpose": "care"}


@given(key=st.binary(max_size=60), partitions=st.integers(1, 100))
def test_partitions_are_those_of_kafkas_own_clients(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_topics_by_template() -> None:
    template = Destinations("x.{topic}.{type}.{source_agency}", {"x.cursors.t."})
    agency = agency_of("//highway-patrol/crashes")
    assert template.topic_for("crash-reports", "t/v1 ü", agency) == "x.crash-reports.t-v1--.highway-patrol"
    assert agency_of("urn:other") == ""
    for wrong in (("cursors", "t", ""), ("t" * 250, "t", "")):
        with pytest.raises(NoDestination):
            template.topic_for(*wrong)
    for name in ("__consumer_offsets", "..", ""):
        with pytest.raises(NoDestination):
            Destinations("{type}", ()).topic_for("t", name, "")


@pytest.mark.parametrize(
    "template",
    ["", "a b", "{id}", "{}", "{topic", "{topic!r}", "{topic.__class__}", "{topic:>9}", "__x", "x" * 250],
)
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Destinations(template, ())
    with pytest.raises(ValidationError):
        sink_settings(topic=template)


@pytest.mark.parametrize(
    "write",
    [
        {"topic": "in", "notice_topic": "in"},
        {"cursor_topic": "notices"},
        {"dead_letter_topic": "entente.cursors"},
        {"cursor_topic": "not a name"},
        {"mode": "batched"},
        {"key": "id"},
        {"unknown": 1},
    ],
)
def test_settings_that_would_mix_what_must_be_apart(write: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        sink_settings(**write)


def test_dead_letters_need_a_topic_and_subscriptions_a_name_that_the_exchange_takes() -> None:
    with pytest.raises(ValidationError):
        sink_settings(on_error="dead-letter", dead_letter_topic=None)
    with pytest.raises(ValidationError):
        sink_settings(subscription="Intake!")
    named = sink_settings().model_copy(update={"subscription": None})
    assert named.subscription_of("Crashes_East") == "connect-crashes_east"
    long = {named.subscription_of("x" * 60 + end) for end in ("", "a", "b")}
    assert len(long) == 3
    assert all(sink_settings(subscription=each).subscription == each for each in long)


def test_a_type_that_leads_into_the_connectors_own_topics_is_a_dead_letter_and_says_nothing_of_the_content() -> (
    None
):
    made = record({"name": SECRET})
    made.type = "cursors"
    chosen = {"topic": "entente.{type}"}
    portion = portion_of([delivered(made)], sink_settings(on_error="dead-letter", **chosen))
    [letter] = portion.records()
    assert (letter.topic, letter.key, len(portion.treated)) == ("dead", b"//highway-patrol/crashes r 1", 1)
    read = decode_letter(AgencyRecord(letter.key, letter.value, tuple(letter.headers)))
    assert read is not None
    assert SECRET.encode() in (letter.value or b"")
    assert read.letter.cause.startswith("NO_DESTINATION: ")
    assert read.letter.origin["type"] == "cursors"
    assert "r 1" not in read.letter.place
    with pytest.raises(ConnectorFailed) as failed:
        portion_of([delivered(made)], sink_settings(**chosen))
    assert SECRET not in failed.value.cause
    assert "r 1" not in failed.value.cause
    skipping = portion_of([delivered(made)], sink_settings(on_error="skip", **chosen))
    assert (list(skipping.records()), len(skipping.treated)) == ([], 1)


def test_a_withdrawal_is_noted_among_the_dead_letters_under_its_records_name() -> None:
    made, settings = record(), sink_settings(on_error="dead-letter")
    portion = portion_of([delivered(made)], settings)
    portion.refuse([0])
    [letter] = portion.records()
    [_, _, note] = portion_of([withdrawal()], settings).records()
    assert (letter.topic, note.topic) == ("dead", "dead")
    assert letter.place == note.place
    assert dict(note.headers)["entente.dead-letter.record"] == letter.place
    assert len(portion_of([withdrawal()], sink_settings()).records()) == 2


def test_places_are_written_as_people_write_them() -> None:
    for place in (b"\x00\xffcursor", "earliest", "latest", datetime(2026, 1, 31, tzinfo=UTC)):
        assert decode_place(encode_place(place)) == place
    for wrong in (
        {},
        {"cursor": "%"},
        {"from": "soon"},
        {"cursor": "YQ", "from": "latest"},
        {"offset": 3},
        None,
    ):
        with pytest.raises(ValueError, match=r"\w"):
            decode_place(wrong)


def test_only_whole_batches_are_given_out() -> None:
    taken = Taken(most_records=3)
    made = delivered(record(), ends_batch=False)
    assert taken.left == 3
    for _ in range(2):
        taken.add([made] * 2)
    assert (taken.full, taken.all_sealed(), taken.empty, taken.left) == (False, [], False, 1)
    last = delivered(record())
    taken.add([last, made])
    assert taken.full
    assert taken.all_sealed() == [made] * 4 + [last]
    assert (taken.full, taken.empty) == (False, False)
