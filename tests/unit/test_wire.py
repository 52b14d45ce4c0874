"""What is joined from bytes by hand parses, with the generated code, as the same message (golden: the field numbers)."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.deliver.wire import (
    batch_response,
    disclosure,
    encoded_text,
    event_attribute,
    length_delimited,
    notice_delivery,
    record_delivery,
    reduced_event,
)
from broker.core.record.fingerprint import content_digest
from broker.core.record.outline import entries_by_name, order_of, read_outline
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


def reference(event: CloudEvent, names: set[str], data: bytes) -> CloudEvent:
    """What a reduced event is, made with the generated code."""
    made = CloudEvent(id=event.id, source=event.source, spec_version=event.spec_version, type=event.type)
    for name in names & set(event.attributes):
        made.attributes[name].CopyFrom(event.attributes[name])
    match event.WhichOneof("data"):
        case "text_data":
            made.text_data = data.decode()
        case "binary_data":
            made.binary_data = data
    return made


@given(events, st.booleans(), st.binary(max_size=300), st.data())
@settings(max_examples=100)
def test_a_reduced_event_is_what_protobuf_would_write(
    event: CloudEvent, is_text: bool, data: bytes, drawn: st.DataObject
) -> None:
    if is_text:
        event.text_data, data = "whole", data.hex().encode()
    names = (
        set(drawn.draw(st.lists(st.sampled_from(sorted(event.attributes)), unique=True)))
        if event.attributes
        else set()
    )
    outline = read_outline(event.SerializeToString(deterministic=True))
    entries = entries_by_name(outline)
    attributes = [event_attribute(entries[name.encode()]) for name in sorted(names, key=order_of)]
    made = reduced_event(outline, b"".join(attributes), data)
    assert made == reference(event, names, data).SerializeToString(deterministic=True)


def test_a_reduced_event_without_data_has_none() -> None:
    for kind in (CloudEvent(id="1"), CloudEvent(id="1", proto_data=Any(value=b"hidden"))):
        made = CloudEvent.FromString(reduced_event(read_outline(kind.SerializeToString()), b"", b"x"))
        assert made.WhichOneof("data") is None


@given(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), st.text(max_size=300))
@settings(max_examples=50)
def test_an_encoded_text_is_an_attribute(name: str, text: str) -> None:
    event = CloudEvent()
    event.attributes[name].ce_string = text
    assert read_outline(event.SerializeToString()).attributes == [encoded_text(name, text)]
