"""What a document must be like at publish if its type has field markings.

Redaction parses a document and writes it again, so what would not survive that, or could be read in two ways,
is refused: invalid JSON (RFC 8259), names that are not unique in their object, numbers that would change, and
deep nesting.

A number is exact when writing it again gives the same number: an integer from -2^63 to 2^64 - 1, or one with a
fraction or exponent whose decimal value equals that of the shortest form of its IEEE 754 double. So `1.0`,
`1.10`, `1e2` and `-0.0` are exact, while `1.0000000000000000001`, `0.10000000000000001`, `1e400`, `1e-400`, and
`-0`, whose sign would be lost, are not.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Final

import orjson

from broker.errors import EntenteError, Reason

MAX_DEPTH: Final = 64
"""Arrays and objects inside each other, the outermost counted; a scalar alone has depth 0."""

_Container = dict[str, object] | list[object]

_TWICE: Final = "an object has two members of one name; names must be unique"
_INEXACT: Final = "a number would lose precision or its sign; send it as a string"
_INT_CHARACTERS: Final = 20  # "-9223372036854775808" and "18446744073709551615"
_EXACT_CHARACTERS: Final = 16  # a point and 15 digits, which every double keeps (DBL_DIG)


def check_document(data: bytes, max_depth: int = MAX_DEPTH) -> object:
    """The parsed document, if it can be redacted exactly.

    Raises EntenteError with CONTENT_INVALID; its detail holds nothing of the document.
    """
    document = _parse(data, max_depth)
    # Brackets inside texts count too: what has few of both is not looked through.
    if data.count(b"[") + data.count(b"{") > max_depth and _is_deeper(document, max_depth):
        raise EntenteError(Reason.CONTENT_INVALID, _too_deep(max_depth))
    fault = None if _is_kept(document, data) else _find_fault(data.decode("utf-8"))
    if fault is not None:
        raise EntenteError(Reason.CONTENT_INVALID, fault)
    return document


class _Fault(Exception):
    """Found while parsing; the argument is fit for the caller."""


def _parse(data: bytes, max_depth: int) -> object:
    """By the parser that redaction uses; it refuses invalid UTF-8, half surrogates and NaN as well."""
    try:
        document: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        fault = _describe(error, max_depth)
    else:
        return document
    raise EntenteError(
        Reason.CONTENT_INVALID, fault
    )  # outside, because the parser's error holds the document


def _describe(error: orjson.JSONDecodeError, max_depth: int) -> str:
    if "depth limit" in error.msg:
        return _too_deep(max_depth)
    if "infinity" in error.msg:
        return _INEXACT
    return f"it is not JSON in UTF-8 (RFC 8259), at character {error.pos}"


def _too_deep(max_depth: int) -> str:
    return f"it is nested deeper than {max_depth} arrays and objects"


def _is_deeper(document: object, max_depth: int) -> bool:
    """Level by level, so that no document can exhaust the stack."""
    level: list[_Container] = [document] if isinstance(document, dict | list) else []
    for _ in range(max_depth):
        inner: list[_Container] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            inner += [item for item in items if isinstance(item, dict | list)]
        if not inner:
            return False
        level = inner
    return bool(level)


def _is_kept(document: object, data: bytes) -> bool:
    """Whether it is written again byte for byte: then no member was lost and no digit. Measured: looks that are less
    strict, for documents that are spaced otherwise, cost as much as `_find_fault`, which has to tell then.
    """
    try:
        return orjson.dumps(document) == data
    except orjson.JSONEncodeError:  # nested deeper than it writes
        return False


def _find_fault(text: str) -> str | None:
    """What orjson lets pass: names that are not unique, and numbers that it rounds."""
    try:
        _DECODER.decode(text)
    except _Fault as fault:
        return str(fault)
    except (ValueError, RecursionError):
        return "it is not JSON that every parser reads alike"
    return None


def _check_names(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise _Fault(_TWICE)


def _check_int(text: str) -> None:
    if text == "-0" or len(text) > _INT_CHARACTERS or not -(2**63) <= int(text) < 2**64:
        raise _Fault(_INEXACT)


def _check_float(text: str) -> None:
    if len(text) <= _EXACT_CHARACTERS and "e" not in text and "E" not in text:
        return
    try:
        exact = Decimal(text) == Decimal(repr(float(text)))
    except InvalidOperation:  # an exponent beyond Decimal's own range
        exact = False
    if not exact:
        raise _Fault(_INEXACT)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_check_names, parse_int=_check_int, parse_float=_check_float
)
