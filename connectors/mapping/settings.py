"""The table `map` of a configuration file: where a record's attributes and labels come from."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.mapping.paths import compile_path

LABELS = frozenset({"dataclassification", "dataregulation", "datacategory", "purposes", "releasableto"})
LISTS = frozenset({"dataregulation", "purposes", "releasableto"})
"""Labels that may hold several words."""

STAMPED = frozenset({"recordedtime", "authid"})
"""Attributes that the exchange sets and takes from nobody."""

_KEYS_OF_THEIR_OWN = frozenset(
    {"id", "source", "specversion", "type", "data", "subject", "partitionkey", "time", "datacontenttype"}
)
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,20}")
_PLACES = ("constant", "header", "path", "attribute", "key", "file")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Value(_Table):
    """Where one value comes from: a constant, or exactly one place in the record.

    header: of that name. path: an RFC 9535 JSONPath into the record's data. attribute: of the CloudEvent that the record
    is. key: the record's key. file: the name of the file that it is read from. table: what the value found is replaced
    by; one that is not in it has no value. default: where there is no value. required: without a value the record is
    refused; only what a CloudEvent may lack can be left out instead.
    """

    constant: str | tuple[str, ...] | None = None
    header: str | None = Field(default=None, min_length=1)
    path: str | None = None
    attribute: str | None = Field(default=None, min_length=1)
    key: Literal[True] | None = None
    file: Literal[True] | None = None
    table: dict[str, str | tuple[str, ...]] | None = None
    default: str | tuple[str, ...] | None = None
    required: bool = True

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, written: Any) -> Any:
        """A text or list alone is a constant."""
        if isinstance(written, str | list | tuple):
            return {"constant": written}
        if not isinstance(written, dict | Value):
            raise ValueError('write a text in quotes, or a table such as { path = "$.name" }')
        return written

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(getattr(self, place) is not None for place in _PLACES) != 1:
            raise ValueError("give a constant or exactly one of header, path, attribute, key and file")
        if self.constant is not None and (self.table is not None or self.default is not None):
            raise ValueError("a constant takes neither table nor default")
        for text in self.written():
            if not text:
                raise ValueError("an empty text is no value; leave the key out")
        return self

    @field_validator("path")
    @classmethod
    def _is_a_path(cls, path: str | None) -> str | None:
        if path is not None:
            compile_path(path)
        return path

    def written(self) -> tuple[str, ...]:
        """Every value that the configuration itself holds."""
        texts = (self.constant, self.default, *(self.table or {}).values())
        return tuple(part for text in texts if text is not None for part in _parts(text))

    @property
    def several(self) -> bool:
        """Whether a list of words is written somewhere."""
        texts = (self.constant, self.default, *(self.table or {}).values())
        return any(isinstance(text, tuple) for text in texts)


class TimeValue(Value):
    """When it happened; format: how it is written."""

    format: Literal["rfc3339", "epoch-ms", "epoch-s"] = "rfc3339"

    @model_validator(mode="after")
    def _from_the_record(self) -> Self:
        if self.constant is not None or self.default is not None or self.table is not None:
            raise ValueError("a time comes from the record; give header, path or attribute")
        return self


class MappingSettings(_Table):
    """How an agency's record becomes a CloudEvent of the exchange.

    type, source: needed unless every record is a CloudEvent that has them. id: default a stable one, made of the record's
    origin. time: default the record's timestamp. content_type: default the event's, else application/json.
    labels: `dataclassification` and any of `dataregulation`, `datacategory`, `purposes`, `releasableto`; only what stands
    here becomes a label, whatever a producer writes into an event. attributes: further ones.
    cloudevents: `keep` recognises CloudEvents (Kafka protocol binding, binary and structured) and keeps the attributes
    that the mapping does not set, `ignore` takes each value as it is. tombstones: what becomes of records without value.
    """

    type: Value | None = None
    source: Value | None = None
    id: Value | None = None
    subject: Value | None = None
    partition_key: Value | None = None
    time: TimeValue | None = None
    content_type: Value | None = None
    labels: dict[str, Value]
    attributes: dict[str, Value] = {}
    cloudevents: Literal["keep", "ignore"] = "keep"
    tombstones: Literal["skip", "refuse"] = "refuse"

    @field_validator("labels")
    @classmethod
    def _only_labels(cls, labels: dict[str, Value]) -> dict[str, Value]:
        for name, value in labels.items():
            if name not in LABELS:
                raise ValueError(f"{name} is no label; the labels are {', '.join(sorted(LABELS))}")
            if not value.required:
                raise ValueError(
                    f"{name}: a label that may be missing would widen who sees it; give it a default"
                )
            if value.several and name not in LISTS:
                raise ValueError(f"{name} holds one word, not a list")
        if "dataclassification" not in labels:
            raise ValueError("dataclassification is missing; no record is taken without it")
        return labels

    @field_validator("attributes")
    @classmethod
    def _only_attributes(cls, attributes: dict[str, Value]) -> dict[str, Value]:
        for name, value in attributes.items():
            if not _ATTRIBUTE_NAME.fullmatch(name):
                raise ValueError(f"{name}: a name is 1 to 20 of a-z and 0-9")
            if name in LABELS | STAMPED | _KEYS_OF_THEIR_OWN:
                raise ValueError(
                    f"{name} is a label, a key of its own, or set by the exchange; take it out here"
                )
            if value.several:
                raise ValueError(f"{name} holds one value, not a list")
        return attributes

    @model_validator(mode="after")
    def _complete(self) -> Self:
        named = {"type": self.type, "source": self.source, "id": self.id, "content_type": self.content_type}
        for name, value in named.items():
            if value is None and name in ("type", "source") and self.cloudevents == "ignore":
                raise ValueError(f"{name} is missing")
            if value is not None and (value.several or not value.required):
                raise ValueError(f"{name} is one text, and needed")
        for value in (self.subject, self.partition_key):
            if value is not None and value.several:
                raise ValueError("subject and partition_key are one text each")
        if self.source is not None and not all(text.startswith("//") for text in self.source.written()):
            raise ValueError("source begins with //your-agency/")
        return self


def _parts(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
