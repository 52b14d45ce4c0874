"""Canonical JSON (RFC 8785), through orjson where its form is the same, and through the rfc8785 library elsewhere.

orjson is thirty times faster and sorts keys by code point, writes integers plainly and escapes as RFC 8785 §3.2.2.2 asks. It
differs in floating-point numbers (for NaN it writes null), in integers beyond 2^53 - 1 (which RFC 8785 refuses), and in the
order of keys beyond the Basic Multilingual Plane. What could hold one of these goes the slow way; a property test compares
both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import orjson
import rfc8785

from broker.model.ledger import JsonValue

_SHAPE = bytes.maketrans(b"123456789eE,[", b"000000000..::")
"""A translation after which digits are 0, what follows one in a floating-point number is a dot, what precedes it a colon."""

_NO_FLOATS = frozenset({str, int, bool, type(None)})

# Of the shape: after a structural character a number with a fraction, an exponent or 16 digits. Text that only looks so
# takes the slow way too, to the same result.
_NUMBER = re.compile(rb":-?0+(?:\.|(?<=0{16}))")
_BEYOND_BASIC_PLANE = re.compile(rb"[\xee-\xf4]")
"""Lead bytes from U+E000 on, whose order as keys differs between code points and UTF-16 code units."""


def canonical(value: JsonValue) -> bytes:
    """The canonical form in UTF-8; raises ValueError for what has none (NaN, large integers, lone surrogates)."""
    try:
        quick = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits, lone surrogates, and what is not JSON
        raise ValueError("a ledger entry holds a value that has no canonical JSON form") from None
    if (
        _is_canonical(quick)
        and not isinstance(value, float | int)
        and (b"null" not in quick or _is_finite(value))
    ):
        return quick
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError("a ledger entry holds a value that has no canonical JSON form") from error


def canonical_each(values: Sequence[JsonValue]) -> list[bytes]:
    """As `canonical` for each of several values, which are looked at together where all of them are quick."""
    try:
        quick = [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values]
    except TypeError:
        return [canonical(value) for value in values]
    together = b"[%b]" % b",".join(quick)
    if _is_canonical(together) and b"null" not in together:
        return quick
    return [canonical(value) for value in values]


def _is_canonical(quick: bytes) -> bool:
    """Whether RFC 8785 has no other form for this output of orjson, an array, an object or a scalar that is no number."""
    if not quick.isascii() and _BEYOND_BASIC_PLANE.search(quick):
        return False
    # Cheap looks first: long lists of short numbers are what the ledger holds most of.
    shape = quick.translate(_SHAPE)
    if not (b"." in shape and b"0." in shape) and b"0000000000000000" not in shape:
        return True
    return _NUMBER.search(shape) is None


def _is_finite(value: JsonValue) -> bool:
    """Whether no number in it is one that orjson writes as null."""
    if isinstance(value, float):
        return math.isfinite(value)
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for member in members:
        if type(member) in _NO_FLOATS:  # most are; a call for each would cost more than all else here
            continue
        if not _is_finite(member):
            return False
    return True
