"""Text that is safe to show: records come from other organisations, and a terminal obeys control characters."""

from __future__ import annotations

import json
import re

_C1 = re.compile(r"[\x7f-\x9f]")


def printable(text: str) -> str:
    """The text with each character that does not print written as an escape."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def one_line(text: str) -> str:
    """The printable text on one line."""
    return printable(" ".join(text.split()))


def to_json(value: object, *, indent: int | None = None) -> str:
    """JSON text of str, int, float, bool, None, list and dict, safe for a terminal and always encodable as UTF-8."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
        return json.dumps(value, ensure_ascii=True, indent=indent, separators=separators)
    return _C1.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
