"""Data files of a rulebook: the part of YAML that means the same to every reader.

The broker and the policy engine must see one value, so anything on which YAML readers differ is refused: duplicate keys,
aliases, tags, more than one document, and scalars that are no JSON value (dates, infinities). JSON is a part of YAML, and
what a program has written as JSON is read as such, several times as fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from broker.model.plain_yaml import (
    EXACT_INTEGER,
    MAX_DEPTH,
    DataRefused,
    JsonValue,
    Place,
    read_lines,
    read_yaml,
)

__all__ = ["DataRefused", "JsonValue", "Place", "lines_of", "parse_yaml"]

_READ_OTHERWISE = re.compile("\\\\u|[\x7f-\x9f\u2028\u2029\ufeff]")
"""What stands for something else in YAML than in JSON, or may: surrogates that are escaped, and breaks of lines."""


class _Unclear(ValueError):
    """Not JSON that reads as YAML does: let the reader of YAML say what it is."""


def parse_yaml(content: bytes) -> JsonValue:
    """The value of one data file.

    Raises DataRefused if it is no UTF-8 or YAML, or if two readers could take it differently.
    """
    text = _text(content)
    if text.lstrip()[:1] == "{" and not _READ_OTHERWISE.search(text):
        try:
            return _read_json(text)
        except (ValueError, RecursionError):
            pass
    return read_yaml(text)


def lines_of(content: bytes, wanted: Callable[[Place], bool] = lambda _: True) -> Mapping[Place, int]:
    """The line, from 1, on which each member and element of a data file begins, of those that are wanted.

    What is within one that is not wanted is not asked for. Raises DataRefused as `parse_yaml`.
    """
    parse_yaml(content)
    return read_lines(_text(content), wanted)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataRefused("is not UTF-8; save it as UTF-8") from None


def _read_json(text: str) -> JsonValue:
    value = json.loads(
        text, object_pairs_hook=_distinct, parse_int=_exact, parse_float=_unclear, parse_constant=_unclear
    )
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)
            if type(child) in (dict, list)
        ]
        if not level:
            return value
    raise _Unclear


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Unclear
    return members


def _exact(text: str) -> int:
    # What has more digits than a number that is exact is not even read.
    if len(text) > len(str(-EXACT_INTEGER)) or abs(int(text)) > EXACT_INTEGER:
        raise _Unclear
    return int(text)


def _unclear(text: str) -> NoReturn:
    raise _Unclear
