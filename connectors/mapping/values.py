"""Single values of a mapping, compiled: found in a record, looked up in their table, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from connectors.mapping.events import Event, timestamp
from connectors.mapping.paths import NotReadable, compile_path
from connectors.mapping.record import AgencyRecord, Unmappable
from connectors.mapping.settings import TimeValue, Value

REFUSED = "UNMAPPED"
_INT32 = range(-(2**31), 2**31)
_UNITS = {"epoch-ms": 1, "epoch-s": 1_000}


@dataclass(slots=True)
class Reading:
    """A record being mapped. document: its data as JSON, if a path needs it."""

    record: AgencyRecord
    headers: Mapping[str, str]
    event: Event | None
    document: object = None


class Finder:
    """Finds one configured value that is no constant; `key` is how it is named in the configuration."""

    def __init__(self, key: str, value: Value) -> None:
        self.key = key
        self.value = value
        self._path = compile_path(value.path) if value.path is not None else None
        self._table = value.table

    def refuse(self, why: str) -> Unmappable:
        """That this value cannot be had; `why` holds nothing of the record."""
        return Unmappable(f"{REFUSED}: {self.key}: {self._place()} {why}")

    def texts(self, reading: Reading, *, several: bool = False) -> tuple[str, ...]:
        """The value as texts: none, one, or several if that is permitted. Raises Unmappable."""
        value = self.value
        if not several and (text := self._plain(reading)) is not None:
            return (text,)
        found = [self._text(node) for node in self._nodes(reading, several)]
        if value.table is not None:
            found = [entry for text in found for entry in self._entry(text)]
        if found:
            return tuple(dict.fromkeys(found))
        if value.default is not None:
            return _tuple(value.default)
        if value.required:
            raise self.refuse("has no value" if value.table is None else "has no value that its table knows")
        return ()

    def text(self, reading: Reading) -> str | None:
        """The value as one text; None if it has none and need not. Raises Unmappable."""
        if (text := self._plain(reading)) is not None:
            return text
        found = self.texts(reading)
        return found[0] if found else None

    def typed(self, reading: Reading) -> str | int | bool | bytes | Timestamp | None:
        """As `text`, but whole numbers and truth values stay what they are."""
        if self.value.table is None:
            nodes = self._nodes(reading, several=False)
            if len(nodes) == 1 and isinstance(nodes[0], bool | int | bytes | Timestamp):
                if not isinstance(nodes[0], bool | int) or nodes[0] in _INT32:
                    return nodes[0]
                raise self.refuse("is no 32-bit integer; send it as text")
        return self.text(reading)

    def _plain(self, reading: Reading) -> str | None:
        """What nearly every record has: one text, which stands for one text. None for any other value."""
        nodes = self._look(reading)
        if len(nodes) != 1:
            return None
        node: Any = nodes[0]
        if type(node) is not str or not node:
            return None
        found = node if self._table is None else self._table.get(node)
        return found if type(found) is str else None

    def _nodes(self, reading: Reading, several: bool) -> list[object]:
        """What is there, without nulls and empty texts, which are no values."""
        nodes = list(self._look(reading))
        if several and len(nodes) == 1 and isinstance(nodes[0], list):
            nodes = nodes[0]
        if several:
            nodes = [
                part for node in nodes for part in (node.split(",") if isinstance(node, str) else (node,))
            ]
            # One empty word among others is a mistake; leaving it out would change what the list says.
            if len(nodes) > 1 and any(node in (None, "") for node in nodes):
                raise self.refuse("holds an empty word")
        elif len(nodes) > 1:
            raise self.refuse("has more than one value, and one is needed")
        return [node for node in nodes if node is not None and node != ""]

    def _look(self, reading: Reading) -> Sequence[object]:
        value = self.value
        if self._path is not None:
            try:
                return self._path.find(reading.document)
            except NotReadable as error:
                raise self.refuse(str(error)) from None
        if value.header is not None:
            found: object = reading.headers.get(value.header)
        elif value.attribute is not None:
            found = reading.event.attributes.get(value.attribute) if reading.event is not None else None
        elif value.key is not None:
            found = self._decoded(reading.record.key)
        else:
            found = reading.record.origin.get("file")
        return () if found is None else (found,)

    def _decoded(self, key: bytes | None) -> str | None:
        try:
            return None if key is None else key.decode()
        except UnicodeDecodeError:
            raise self.refuse("is no UTF-8 text") from None

    def _text(self, node: object) -> str:
        if isinstance(node, str):
            return node
        if isinstance(node, bool) and self.value.table is not None:
            return "true" if node else "false"
        # Numbers with a fraction, and those beyond 64 bits, which a reader makes into such: two could become one text.
        if isinstance(node, int) and not isinstance(node, bool):
            return str(node)
        raise self.refuse("is neither text nor a whole number")

    def _entry(self, text: str) -> tuple[str, ...]:
        found = (self.value.table or {}).get(text)
        if found is None and self.value.default is None:
            raise self.refuse("has a value that its table does not know")
        return _tuple(self.value.default or "") if found is None else _tuple(found)

    def _place(self) -> str:
        value = self.value
        if value.key or value.file:
            return "the record's key" if value.key else "the file's name"
        return next(
            f"{kind} {name}" for kind in ("path", "header", "attribute") if (name := getattr(value, kind))
        )


class TimeFinder(Finder):
    """Finds when something happened."""

    def __init__(self, value: TimeValue) -> None:
        super().__init__("time", value)
        self._unit_ms = _UNITS.get(value.format)

    def instant(self, reading: Reading) -> Timestamp | None:
        """None if it has none and need not. Raises Unmappable."""
        found = self.typed_instant(reading)
        if found is None or isinstance(found, Timestamp):
            return found
        try:
            if self._unit_ms is None:
                return timestamp(found)
            stamp = Timestamp()
            stamp.FromMilliseconds(int(found) * self._unit_ms)
            stamp.ToJsonString()  # refuses what is beyond the years 1 to 9999
            return stamp
        except (ValueError, OverflowError):
            raise self.refuse("is no time of the configured format") from None

    def typed_instant(self, reading: Reading) -> str | Timestamp | None:
        """An event's own time, or a text."""
        nodes = self._nodes(reading, several=False)
        return nodes[0] if nodes and isinstance(nodes[0], Timestamp) else self.text(reading)


def _tuple(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
