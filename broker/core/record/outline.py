"""A stored CloudEvent with its attributes left as they are encoded.

Taking each attribute out of protobuf's map costs more than all else that is done to a small record, and what passes on
unchanged, or is only compared, needs not be taken out. So the same bytes are read here as a message of the same fields, all
of them bytes. An attribute is then an entry of the map in its encoding, `0a <length> <name> 12 <length> <value>` as protobuf
serialises it: equal entries are equal attributes. In another form it is found by no name, or by one that `is_named` denies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

ENTRIES = 1_024
"""Entries that are known to be what their names say; an attribute takes 4 KiB at most."""


class Outline(Protocol):
    """The fields of a CloudEvent as bytes, without any check that texts are UTF-8."""

    id: bytes
    source: bytes
    spec_version: bytes
    type: bytes
    binary_data: bytes
    text_data: bytes

    @property
    def attributes(self) -> Sequence[bytes]:
        """The map's entries as they are encoded, in the order in which they are stored."""

    def WhichOneof(self, oneof: Literal["data"]) -> str | None:
        """Which of the kinds of data is there."""


def _like(message: type[CloudEvent]) -> Any:
    """The message with the same fields, all of them bytes."""
    described = DescriptorProto()
    message.DESCRIPTOR.CopyToProto(described)
    described.ClearField("nested_type")
    for each in described.field:
        each.type = FieldDescriptorProto.TYPE_BYTES
        each.ClearField("type_name")
    pool = DescriptorPool()
    pool.Add(FileDescriptorProto(name="outline.proto", syntax="proto3", message_type=[described]))
    return GetMessageClass(pool.FindMessageTypeByName(described.name))


_OUTLINE = _like(CloudEvent)


def read_outline(body: bytes) -> Outline:
    """The outline of a serialised CloudEvent; raises DecodeError for what is no message of such fields."""
    return cast(Outline, _OUTLINE.FromString(body))


def entries_by_name(outline: Outline) -> dict[bytes, bytes]:
    """The encoded attributes by name; of several the last counts, as protobuf has it. Raises DecodeError."""
    try:
        return {entry[2 : 2 + entry[1]]: entry for entry in outline.attributes}
    except IndexError:
        raise DecodeError("an attribute has no name") from None


def with_attributes(entries: Iterable[bytes]) -> CloudEvent:
    """An event of these attributes and nothing else; raises DecodeError if one is none."""
    return CloudEvent.FromString(_OUTLINE(attributes=entries).SerializeToString())


@lru_cache(maxsize=ENTRIES)
def is_named(entry: bytes, name: str) -> bool:
    """Whether an encoded attribute is that of this name, to whoever reads it."""
    try:
        return CloudEvent.AttributesEntry.FromString(entry).key == name
    except DecodeError:
        return False


def order_of(name: str) -> str:
    """What protobuf's deterministic serialisation sorts attributes by: of two that begin alike the longer is first."""
    return name + "~"
