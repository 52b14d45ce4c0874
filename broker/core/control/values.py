"""Typed values out of an event's body, which another instance wrote."""

from __future__ import annotations

from collections.abc import Mapping

from broker.model.ledger import JsonValue


def word(body: Mapping[str, JsonValue], name: str) -> str:
    """A string that is not empty; raises KeyError or ValueError."""
    value = body[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"'{name}' is no word")
    return value


def whole_number(body: Mapping[str, JsonValue], name: str) -> int:
    """An integer of 0 or more; raises KeyError or ValueError."""
    value = body[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"'{name}' is no whole number")
    return value
