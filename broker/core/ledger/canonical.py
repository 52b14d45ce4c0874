"""Canonical JSON (RFC 8785), through orjson where its form is the same, and through the rfc8785 library elsewhere.

orjson is thirty times faster and sorts keys by code point, writes integers plainly and escapes as RFC 8785 §3.2.2.2 asks. It
differs in floating-point numbers, in integers beyond 2^53 - 1 (which RFC 8785 refuses), and in the order of keys beyond
the Basic Multilingual Plane. What could hold one of these goes the slow way; a property test compares both.
"""

from __future__ import annotations

import re

import orjson
import rfc8785

from broker.model.ledger import JsonValue

# After a structural character a number with a fraction, an exponent or 16 digits. Text that only looks so takes the slow way
# too, to the same result.
_NUMBER = re.compile(rb"[:,\[]-?\d+(?:[.eE]|(?<=\d{16}))")
_BEYOND_BASIC_PLANE = re.compile(rb"[\xee-\xf4]")
"""Lead bytes from U+E000 on, whose order as keys differs between code points and UTF-16 code units."""


def canonical(value: JsonValue) -> bytes:
    """The canonical form in UTF-8; raises ValueError for what has none (NaN, large integers, lone surrogates)."""
    try:
        quick = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits, lone surrogates, and what is not JSON
        raise ValueError("a ledger entry holds a value that has no canonical JSON form") from None
    plain = quick.isascii() or _BEYOND_BASIC_PLANE.search(quick) is None
    if plain and not isinstance(value, float | int) and _NUMBER.search(quick) is None:
        return quick
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError("a ledger entry holds a value that has no canonical JSON form") from error
