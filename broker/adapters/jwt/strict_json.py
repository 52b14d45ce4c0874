"""JSON where two readers cannot disagree: objects only, no repeated member, no NaN (RFC 7519 §4, RFC 8725 §2.4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn


def parse_object(content: bytes) -> dict[str, object]:
    """The object. Raises ValueError for anything else; its message does not quote the content."""
    try:
        document = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("is not strict JSON") from None
    if not isinstance(document, dict):
        raise ValueError("is not an object")
    return document


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeats a member")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError("is no JSON number")
