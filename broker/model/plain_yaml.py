"""Reads the part of YAML that means the same to every reader, from the parser's events, with bounds on depth.

PyYAML's own loaders build a tree of nodes first, which takes twenty times as long: a quarter of an hour for a rulebook with
a million agreements. Its parser is that of libyaml, which keeps no stack of the process's own while it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import yaml

JsonValue = Any
"""What `json` knows: dict with str keys, list, str, int, float, bool, None."""

Place = tuple[str | int, ...]
"""Keys and indexes from the file's top to a value; () is the whole."""

MAX_DEPTH = 32
EXACT_INTEGER = 2**53
"""Beyond this a JSON reader that uses IEEE 754 doubles sees another number (RFC 8259 §6)."""

_KNOWN_LIMIT = 10_000
_NUMBER_CHARACTERS = 50
"""More than any number that is exact has; making one of megabytes would take hours."""
_TAG = "tag:yaml.org,2002:"
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODES = frozenset({yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent})
_ENDS = frozenset({yaml.MappingEndEvent, yaml.SequenceEndEvent})
_SCALARS = yaml.constructor.SafeConstructor()
_RESOLVERS: dict[str | None, list[tuple[str, Any]]] = yaml.SafeLoader.yaml_implicit_resolvers
_MAKE: dict[str, Callable[[yaml.ScalarNode], JsonValue]] = {
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": _SCALARS.construct_yaml_bool,
    f"{_TAG}int": _SCALARS.construct_yaml_int,
    f"{_TAG}float": _SCALARS.construct_yaml_float,
}


class DataRefused(ValueError):
    """A data file that could be read in two ways, or not at all; the message is one line and names the place."""


def read_yaml(text: str) -> JsonValue:
    """The value of a text, None of an empty one. Raises DataRefused."""
    top = _Sequence()
    scalars = _Scalars()
    held: list[_Container] = [top]
    for event in _events(text):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            held[-1].put(scalars.value(event), event)
        elif kind is yaml.MappingStartEvent:
            held.append(_Mapping())
        elif kind is yaml.SequenceStartEvent:
            held.append(_Sequence())
        else:
            value = held.pop().value
            held[-1].put(value, event)
    return top.value[0] if top.value else None


def read_lines(text: str, wanted: Callable[[Place], bool]) -> dict[Place, int]:
    """The line, from 1, of the top, and of each member and element that is wanted and lies in one that is.

    A member's is that of its key. Raises DataRefused.
    """
    lines: dict[Place, int] = {(): 1}
    walk = _Walk(lines, wanted)
    for event in _events(text):
        walk.take(event)
    return lines


def _events(text: str) -> Iterator[yaml.Event]:
    """Starts and ends of collections, and scalars, of the one document; what is not permitted is refused."""
    documents = depth = 0
    event: Any
    try:
        next_event = _PARSER(text).get_event
        while (kind := type(event := next_event())) is not yaml.StreamEndEvent:
            if kind in _NODES:
                if depth > MAX_DEPTH or event.tag is not None:
                    raise _refusal(event, _why_not(event))
                depth += kind is not yaml.ScalarEvent
                yield event
            elif kind in _ENDS:
                depth -= 1
                yield event
            elif kind is yaml.AliasEvent:
                raise _refusal(event, "aliases are not allowed; repeat the value")
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _refusal(event, "begins another document; keep one")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataRefused(f"line {line}: {error.problem or 'is not YAML'}; correct the syntax") from None
    except yaml.YAMLError:
        raise DataRefused("is not YAML; correct the syntax") from None


def _why_not(event: Any) -> str:
    if event.tag is not None:
        return "tags are not allowed; write the value without one"
    return f"nested deeper than {MAX_DEPTH}; flatten it"


def _refusal(event: Any, what: str) -> DataRefused:
    return DataRefused(f"line {event.start_mark.line + 1}: {what}")


class _Container(Protocol):
    value: Any

    def put(self, value: JsonValue, event: yaml.Event) -> None:
        """Take a key, a member or an element."""


class _Sequence:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: list[JsonValue] = []

    def put(self, value: JsonValue, event: yaml.Event) -> None:
        self.value.append(value)


class _Mapping:
    __slots__ = ("_key", "value")

    def __init__(self) -> None:
        self.value: dict[str, JsonValue] = {}
        self._key: str | None = None

    def put(self, value: JsonValue, event: yaml.Event) -> None:
        if self._key is not None:
            self.value[self._key] = value
            self._key = None
        elif type(value) is not str:
            raise _refusal(event, "a key is not a string; put it in quotes")
        elif value in self.value:
            raise _refusal(event, f"key '{value}' stands twice; keep one")
        else:
            self._key = value


class _Scalars:
    """Values of scalars. Equal texts share one: a large file says the same words again and again."""

    def __init__(self) -> None:
        self._plain: dict[str, JsonValue] = {}
        self._quoted: dict[str, str] = {}

    def value(self, event: Any) -> JsonValue:
        text: str = event.value
        if not event.implicit[0]:
            return self._quoted.get(text) or _kept(self._quoted, text, text)
        if text in self._plain:
            return self._plain[text]
        return _kept(self._plain, text, _plain_value(text, event))


def _kept(known: dict[str, Any], text: str, value: Any) -> Any:
    if len(known) < _KNOWN_LIMIT:
        known[text] = value
    return value


def _plain_value(text: str, event: yaml.Event) -> JsonValue:
    """What a scalar without quotes stands for: YAML 1.1, as PyYAML has it."""
    resolvers = (*_RESOLVERS.get(text[:1], ()), *_RESOLVERS.get(None, ()))
    tag = next((name for name, pattern in resolvers if pattern.match(text)), None)
    if tag is None:
        return text
    if tag == f"{_TAG}merge":
        raise _refusal(event, "a key is not a string; put it in quotes")
    if tag not in _MAKE:
        raise _refusal(event, "is no JSON value; put it in quotes")
    if len(text) > _NUMBER_CHARACTERS:
        raise _refusal(event, "is a number that loses precision; put it in quotes")
    value = _MAKE[tag](yaml.ScalarNode(tag, text))
    if isinstance(value, float) and not math.isfinite(value):
        raise _refusal(event, "is not a finite number; write a number")
    if isinstance(value, int) and abs(value) > EXACT_INTEGER:
        raise _refusal(event, "is a number that loses precision; put it in quotes")
    return value


class _Walk:
    """Follows the events and notes lines; the place of a container that is not wanted is None."""

    def __init__(self, lines: dict[Place, int], wanted: Callable[[Place], bool]) -> None:
        self._lines = lines
        self._wanted = wanted
        self._held: list[_Level] = []

    def take(self, event: Any) -> None:
        """One event."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._held.pop()
            return
        line = event.start_mark.line + 1
        if not self._held:
            self._lines[()] = line
            place: Place | None = ()
        elif (place := self._held[-1].next_place(event, line)) is _KEY:
            return
        elif place is not None and not self._wanted(place):
            place = None
        elif place is not None:
            self._lines[place] = self._held[-1].line
        if isinstance(event, yaml.CollectionStartEvent):
            self._held.append(_Level(place, isinstance(event, yaml.MappingStartEvent)))


_KEY: Place = ("",)


class _Level:
    """A container that is open, and where it stands."""

    __slots__ = ("_index", "_is_mapping", "_key", "_place", "line")

    def __init__(self, place: Place | None, is_mapping: bool) -> None:
        self._place = place
        self._is_mapping = is_mapping
        self._index = -1
        self._key: str | None = None
        self.line = 0

    def next_place(self, event: Any, line: int) -> Place | None:
        """Where the value of this event stands; `_KEY` for what is a key itself."""
        if not self._is_mapping:
            self._index += 1
            self.line = line
            return None if self._place is None else (*self._place, self._index)
        if self._key is None:
            self._key = getattr(event, "value", "")
            self.line = line
            return _KEY
        key, self._key = self._key, None
        return None if self._place is None else (*self._place, key)
