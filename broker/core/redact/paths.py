"""Field paths: RFC 9535 JSONPath limited to member names and `[*]`.

Everything else of RFC 9535 (indexes, slices, filters, descendants, several selectors in one bracket, the
wildcard as `.*`) is refused, because a marking must be decidable from the path alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final


class Wildcard(Enum):
    """The one segment that is not a name."""

    ELEMENTS = "[*]"


Segment = str | Wildcard
"""A member name, or `Wildcard.ELEMENTS` for each element of an array."""

Path = tuple[Segment, ...]
"""From the root down; the empty tuple is `$`, the whole document."""


MAX_SEGMENTS: Final = 64
"""The longest path; no document that is accepted is nested deeper (`accept.MAX_DEPTH`)."""


class PathError(ValueError):
    """A path that is not of the permitted form; `position` counts characters from 0."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"field path, character {position}: {problem}")
        self.position = position


# RFC 9535 §2.1.1 (blank space), §2.5.1.1 (member-name-shorthand), §2.3.1.1 (string literals).
_BLANK: Final = re.compile(r"[ \t\n\r]*")
_SHORTHAND: Final = re.compile(
    r"[A-Za-z_\u0080-\ud7ff\ue000-\U0010ffff][0-9A-Za-z_\u0080-\ud7ff\ue000-\U0010ffff]*"
)
_PLAIN: Final = {
    "'": re.compile(r"[^\x00-\x1f'\\\ud800-\udfff]+"),
    '"': re.compile(r'[^\x00-\x1f"\\\ud800-\udfff]+'),
}
_HEX: Final = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\"}
_ESCAPED: Final = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "'": "\\'"}
_ASCII_SHORTHAND: Final = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")


def parse_path(text: str) -> Path:
    """The segments of a path such as `$.persons[*]['nc:name']`.

    Raises PathError.
    """
    if not text.startswith("$"):
        raise PathError(0, "a path begins with '$'")
    segments: list[Segment] = []
    position = 1
    while position < len(text):
        if len(segments) == MAX_SEGMENTS:
            raise PathError(position, f"a path has at most {MAX_SEGMENTS} segments")
        start = _skip_blank(text, position)
        segment, position = _parse_segment(text, start)
        segments.append(segment)
    return tuple(segments)


def format_path(path: Iterable[Segment]) -> str:
    """The path as text that `parse_path` reads back: `.name` where ASCII allows it, else `['…']`.

    Characters that do not print are escaped, so that a member name can do nothing to a terminal or a log.
    """
    parts = ["$"]
    for segment in path:
        if isinstance(segment, Wildcard):
            parts.append(segment.value)
        elif _ASCII_SHORTHAND.fullmatch(segment):
            parts.append(f".{segment}")
        else:
            parts.append(f"['{''.join(_escape(character) for character in segment)}']")
    return "".join(parts)


def _skip_blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _parse_segment(text: str, position: int) -> tuple[Segment, int]:
    if text.startswith("..", position):
        raise PathError(position, "'..' is not permitted; name each member")
    if text.startswith(".*", position):
        raise PathError(position, "'.*' is not permitted; use '[*]' for the elements of an array")
    if text.startswith(".", position):
        match = _SHORTHAND.match(text, position + 1)
        if match is None:
            raise PathError(position + 1, "a member name is expected; put other names in brackets and quotes")
        return match.group(), match.end()
    if text.startswith("[", position):
        return _parse_bracket(text, _skip_blank(text, position + 1))
    raise PathError(position, "'.name', \"['name']\" or '[*]' is expected")


def _parse_bracket(text: str, position: int) -> tuple[Segment, int]:
    segment: Segment
    if text.startswith("*", position):
        segment, end = Wildcard.ELEMENTS, position + 1
    elif text[position : position + 1] in _PLAIN:
        segment, end = _parse_quoted(text, position)
    else:
        raise PathError(position, "only a quoted member name or '*' is permitted in brackets")
    end = _skip_blank(text, end)
    if not text.startswith("]", end):
        raise PathError(end, "']' is expected; one name or '*' to a bracket")
    return segment, end + 1


def _parse_quoted(text: str, position: int) -> tuple[str, int]:
    quote = text[position]
    parts: list[str] = []
    position += 1
    while not text.startswith(quote, position):
        match = _PLAIN[quote].match(text, position)
        if match is not None:
            parts.append(match.group())
            position = match.end()
        elif text.startswith("\\", position):
            part, position = _parse_escape(text, position, quote)
            parts.append(part)
        else:
            raise PathError(
                position, "the quoted name is not closed, or holds a control character or surrogate"
            )
    return "".join(parts), position + 1


def _parse_escape(text: str, position: int, quote: str) -> tuple[str, int]:
    kind = text[position + 1 : position + 2]
    if kind == quote:
        return quote, position + 2
    if kind in _ESCAPES:
        return _ESCAPES[kind], position + 2
    if kind != "u":
        raise PathError(position, "no such escape in a name quoted like this (RFC 9535, section 2.3.1.1)")
    unit = _parse_hex(text, position)
    if 0xD800 <= unit < 0xDC00 and text.startswith("\\u", position + 6):
        low = _parse_hex(text, position + 6)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), position + 12
    if 0xD800 <= unit < 0xE000:
        raise PathError(position, "a surrogate without its other half")
    return chr(unit), position + 6


def _parse_hex(text: str, position: int) -> int:
    match = _HEX.match(text, position + 2)
    if match is None:
        raise PathError(position, "'\\u' needs four hexadecimal digits")
    return int(match.group(), 16)


def _escape(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isprintable():
        return character
    utf16 = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{utf16[index : index + 2].hex()}" for index in range(0, len(utf16), 2))
