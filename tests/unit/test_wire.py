"""What is joined from bytes by hand parses, with the generated code, as the same message (golden: the field numbers)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.deliver.wire import (
    batch_response,
    disclosure,
    length_delimited,
    notice_delivery,
    record_delivery,
    reduced_event,
)
from broker.core.record.fingerprint import content_digest
from connectors.receipts import delivery_digest, record_digest
from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import Batch, Delivery, Disclosure, Notice, SubscribeResponse
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

RECEIPT = b"r" * 141

texts = st.text(max_size=20)
attributes = st.dictionaries(
    st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    st.one_of(
        st.builds(CloudEvent.CloudEventAttributeValue, ce_string=texts),
        st.builds(CloudEvent.CloudEventAttributeValue, ce_uri=texts),
        st.builds(CloudEvent.CloudEventAttributeValue, ce_boolean=st.booleans()),
        st.builds(CloudEvent.CloudEventAttributeValue, ce_integer=st.integers(-(1 << 31), (1 << 31) - 1)),
        st.builds(CloudEvent.CloudEventAttributeValue, ce_bytes=st.binary(max_size=20)),
    ),
    max_size=8,
)
words = st.lists(st.text(min_size=1, max_size=10), max_size=4, unique=True).map(tuple)
events = st.builds(
    CloudEvent,
    id=st.text(max_size=200),
    source=st.text(max_size=20),
    spec_version=st.just("1.0"),
    type=st.text(max_size=20),
    attributes=attributes,
    binary_data=st.binary(max_size=400),
)


@given(st.lists(st.tuples(events, words, words), max_size=6), st.binary(max_size=400))
@settings(max_examples=100)
def test_a_batch_of_joined_records(
    rows: list[tuple[CloudEvent, tuple[str, ...], tuple[str, ...]]], cursor: bytes
) -> None:
    encoded = [
        record_delivery(
            event.SerializeToString(deterministic=True),
            disclosure(exchange_pb2.EFFECT_RELEASE, masked, obligations),
        )
        for event, masked, obligations in rows
    ]
    joined = b"".join(row.entry for row in encoded)
    deliveries = [
        Delivery(
            record=event,
            disclosure=Disclosure(
                effect=exchange_pb2.EFFECT_RELEASE, masked=sorted(masked), obligations=sorted(obligations)
            ),
        )
        for event, masked, obligations in rows
    ]
    expected = SubscribeResponse(batch=Batch(deliveries=deliveries, cursor=cursor, receipt=RECEIPT))
    made = batch_response(joined, cursor, RECEIPT)
    # What the ledger says was handed out is what a receiver can compute.
    received = SubscribeResponse.FromString(made)
    assert [row.content for row in encoded] == [delivery_digest(each) for each in received.batch.deliveries]
    assert received == expected
    if cursor:
        assert made == expected.SerializeToString(deterministic=True)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=300))
@settings(max_examples=50)
def test_a_notice(notice_id: str, owner: str, contact: str) -> None:
    notice = Notice(id=notice_id, type="t", owner=owner, contact=contact)
    encoded = notice_delivery(notice, disclosure(exchange_pb2.EFFECT_NOTICE, (), ()))
    made = batch_response(encoded.entry, b"c", RECEIPT)
    batch = SubscribeResponse.FromString(made).batch
    assert delivery_digest(batch.deliveries[0]) == encoded.content
    assert batch.deliveries[0] == Delivery(
        notice=notice, disclosure=Disclosure(effect=exchange_pb2.EFFECT_NOTICE)
    )


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_around_every_size_of_a_varint(size: int) -> None:
    made = length_delimited(2, length_delimited(2, b"x" * size))
    assert len(SubscribeResponse.FromString(made).batch.cursor) == size


def test_the_same_disclosure_is_the_same_bytes() -> None:
    one = disclosure(exchange_pb2.EFFECT_RELEASE, ("b", "a"), ("z", "y"))
    assert one == disclosure(exchange_pb2.EFFECT_RELEASE, ("a", "b"), ("y", "z"))


@given(event=events)
@settings(max_examples=100)
def test_a_client_computes_the_digest_of_a_record_as_the_exchange_does(event: CloudEvent) -> None:
    assert record_digest(event) == content_digest(CloudEvent.FromString(event.SerializeToString()))


def full_event(**data: object) -> CloudEvent:
    event = CloudEvent(id="i", source="//a/b", spec_version="1.0", type="t", **data)  # type: ignore[arg-type]
    event.attributes["time"].ce_timestamp.seconds = 5
    event.attributes["subject"].ce_string = "hidden"
    event.attributes["authid"].ce_string = "hidden"
    return event


def test_a_reduced_event_has_only_what_is_named() -> None:
    made = CloudEvent.FromString(
        reduced_event(full_event(text_data="whole"), ("time", "dataschema"), {"category": "kept"}, b"part")
    )
    assert set(made.attributes) == {"time", "category"}
    assert made.attributes["time"].ce_timestamp.seconds == 5
    assert (made.id, made.source, made.spec_version, made.type) == ("i", "//a/b", "1.0", "t")
    assert made.text_data == "part"
    assert b"hidden" not in made.SerializeToString()


def test_a_reduced_event_keeps_the_kind_of_its_data() -> None:
    binary = CloudEvent.FromString(reduced_event(full_event(binary_data=b"whole"), (), {}, b"\xff"))
    assert binary.binary_data == b"\xff"
    assert CloudEvent.FromString(reduced_event(full_event(), (), {}, b"x")).WhichOneof("data") is None
