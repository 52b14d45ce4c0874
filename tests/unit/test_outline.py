"""An outline finds in a stored event what protobuf finds in it, and takes nothing for what it is not."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.record.outline import entries_by_name, is_named, read_outline, with_attributes
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_Value = CloudEvent.CloudEventAttributeValue

values = st.one_of(
    st.builds(_Value, ce_string=st.text(max_size=300)),
    st.builds(_Value, ce_boolean=st.booleans()),
    st.builds(_Value, ce_bytes=st.binary(max_size=20)),
    st.just(_Value()),
)
names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)


def event_of(**fields: bytes) -> bytes:
    """A serialised event with encoded attributes, one for each field, as they are."""
    entries = fields.values()
    return b"".join(b"\x2a" + bytes([len(entry)]) + entry for entry in entries)


@given(st.dictionaries(names, values, max_size=8), st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=100)
def test_it_is_the_same_event(
    attributes: dict[str, CloudEvent.CloudEventAttributeValue], name: str, data: str
) -> None:
    event = CloudEvent(
        id=name, source="//a/b", spec_version="1.0", type="t", attributes=attributes, text_data=data
    )
    outline = read_outline(event.SerializeToString(deterministic=True))
    assert (outline.id, outline.source, outline.type) == (name.encode(), b"//a/b", b"t")
    assert outline.text_data == data.encode()
    entries = entries_by_name(outline)
    assert {each.decode() for each in entries} == set(attributes)
    assert with_attributes(entries.values()).attributes == event.attributes
    assert all(is_named(entry, each.decode()) for each, entry in entries.items())


NAMED_TIME = b"\x0a\x04time"
DISGUISED = {
    "a second name": NAMED_TIME + b"\x0a\x06authid\x12\x03\x1a\x01x",
    "a value before the name": b"\x12\x03\x1a\x01x" + b"\x0a\x06authid",
    "a name in a field of another number": b"\x1a\x04time\x12\x03\x1a\x01x",
    "a length in more bytes than it needs": b"\x0a\x84\x00time\x12\x03\x1a\x01x",
    "no message": NAMED_TIME + b"\x12\x7f\x1a\x01x",
    "a text that is no UTF-8": NAMED_TIME + b"\x12\x03\x1a\x01\xff",
}


@pytest.mark.parametrize("entry", DISGUISED.values(), ids=DISGUISED.keys())
def test_an_entry_that_readers_take_for_another_is_not_named_so(entry: bytes) -> None:
    found = entries_by_name(read_outline(event_of(only=entry)))
    assert not (b"time" in found and is_named(entry, "time"))


def test_of_two_attributes_of_one_name_the_last_counts() -> None:
    first, last = (NAMED_TIME + b"\x12\x03\x1a\x01" + text for text in (b"1", b"2"))
    body = event_of(first=first, last=last)
    assert entries_by_name(read_outline(body)) == {b"time": last}
    assert CloudEvent.FromString(body).attributes["time"].ce_string == "2"


@pytest.mark.parametrize("entry", [b"", b"\x0a"])
def test_an_attribute_without_a_name_is_no_event(entry: bytes) -> None:
    with pytest.raises(DecodeError):
        entries_by_name(read_outline(event_of(only=entry)))
