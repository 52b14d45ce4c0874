"""Data files of a rulebook: the part of YAML that means the same to every reader.

The broker and the policy engine must see one value, so anything on which YAML readers differ is refused: duplicate keys,
aliases, tags, more than one document, and scalars that are no JSON value (dates, infinities).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

JsonValue = Any
"""What `json` knows: dict with str keys, list, str, int, float, bool, None."""

Place = tuple[str | int, ...]
"""Keys and indexes from the file's top to a value; () is the whole."""

_MAX_DEPTH = 32

_EXACT_INTEGER = 2**53
"""Beyond this a JSON reader that uses IEEE 754 doubles sees another number (RFC 8259 §6)."""


class DataRefused(ValueError):
    """A data file that could be read in two ways, or not at all; the message is one line and names the place."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise DataRefused(f"line {line}: aliases are not allowed; repeat the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise DataRefused(f"line {line}: a key is not a string; put it in quotes")
            if key_node.value in seen:
                raise DataRefused(f"line {line}: key '{key_node.value}' stands twice; keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def parse_yaml(content: bytes) -> JsonValue:
    """The value of one data file.

    Raises DataRefused if it is no UTF-8 or YAML, or if two readers could take it differently.
    """
    try:
        value = yaml.load(content.decode("utf-8"), _StrictLoader)  # noqa: S506 -- a SafeLoader, made stricter
    except UnicodeDecodeError:
        raise DataRefused("is not UTF-8; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataRefused(f"line {line}: {error.problem or 'is not YAML'}; correct the syntax") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, DataRefused):
            raise
        raise DataRefused("is not YAML; correct the syntax") from None
    _check_json(value, "$", 0)
    return value


def lines_of(content: bytes) -> Mapping[Place, int]:
    """The line, from 1, on which each member and element of a data file begins. Raises DataRefused as `parse_yaml`."""
    parse_yaml(content)
    node = yaml.compose(content.decode("utf-8"), _StrictLoader)
    return {(): 1} if node is None else dict(_lines(node, (), node.start_mark.line + 1))


def _lines(node: yaml.Node, place: Place, line: int) -> Iterator[tuple[Place, int]]:
    yield place, line
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*place, key.value), key.start_mark.line + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*place, index), value.start_mark.line + 1)


def _check_json(value: object, where: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise DataRefused(f"{where}: nested deeper than {_MAX_DEPTH}; flatten it")
    if isinstance(value, dict):
        for key, member in value.items():
            _check_json(member, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _check_json(member, f"{where}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataRefused(f"{where}: is not a finite number; write a number")
    elif isinstance(value, int) and abs(value) > _EXACT_INTEGER:
        raise DataRefused(f"{where}: is a number that loses precision; put it in quotes")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise DataRefused(f"{where}: is no JSON value; put it in quotes")
