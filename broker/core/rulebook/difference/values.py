"""What is different between two values of data files."""

from __future__ import annotations

import json
from collections.abc import Iterator

import orjson

from broker.core.rulebook.difference.model import Detail

_DETAILS_LIMIT = 50
_SHOWN_CHARACTERS = 200
_ORDERED = frozenset({"classifications"})
"""Lists whose order means something; of any other, it does not."""


def details(before: object, after: object) -> tuple[Detail, ...]:
    """Each key that is different, of values that are; at most fifty."""
    found = list(_details(before, after, ""))
    if len(found) > _DETAILS_LIMIT:
        more = Detail(f"{len(found) - _DETAILS_LIMIT} more", None, None)
        return (*found[:_DETAILS_LIMIT], more)
    return tuple(found)


def same(before: object, after: object, key: str = "") -> bool:
    """Whether two values mean the same. `1` and `true` do not, nor do lists whose order means something."""
    if orjson.dumps(before) == orjson.dumps(after):
        return True
    return canonical(before, key) == canonical(after, key)


def shown(value: object) -> str:
    """A value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _details(before: object, after: object, key: str) -> Iterator[Detail]:
    if same(before, after, key.rpartition(".")[2]):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            below = f"{key}.{name}" if key else str(name)
            if name not in after:
                yield Detail(below, shown(before[name]), None)
            elif name not in before:
                yield Detail(below, None, shown(after[name]))
            else:
                yield from _details(before[name], after[name], below)
    elif _is_set(before, key) and _is_set(after, key):
        yield from _members(before, after, key)
    else:
        yield Detail(key or "value", shown(before), shown(after))


def _members(before: object, after: object, key: str) -> Iterator[Detail]:
    one = {shown(each) for each in before} if isinstance(before, list) else set()
    other = {shown(each) for each in after} if isinstance(after, list) else set()
    for word in sorted(one - other):
        yield Detail(key or "value", word, None)
    for word in sorted(other - one):
        yield Detail(key or "value", None, word)


def _is_set(value: object, key: str) -> bool:
    names_an_order = key.rpartition(".")[2] in _ORDERED
    return (
        isinstance(value, list) and not names_an_order and not any(isinstance(each, list) for each in value)
    )


def canonical(value: object, key: str = "") -> str:
    """One text for all values that mean the same under this key."""
    if isinstance(value, dict):
        members = sorted((json.dumps(str(name)), canonical(each, str(name))) for name, each in value.items())
        return "{" + ",".join(f"{name}:{each}" for name, each in members) + "}"
    if isinstance(value, list):
        elements = [canonical(each) for each in value]
        return "[" + ",".join(sorted(elements) if _is_set(value, key) else elements) + "]"
    return json.dumps(value)
