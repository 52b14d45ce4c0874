"""JSON documents and JSONPaths into them (RFC 9535).

Of two members of one name a JSON parser keeps one and tells nobody, and another parser keeps the other: so that no label is
read from the wrong one, a document in which a name that a path uses stands twice in one object is refused. What comes out
the same when it is written again holds no name twice. Of any other document the bytes are searched for the names; only
where one is there more than once, or may be written with an escape, the document is parsed a second time, by a parser that
tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import orjson
from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError
from jsonpath_rfc9535.query import JSONPathQuery
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

Step = str | int

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_ .:@$-]+")


class NotReadable(Exception):
    """A document that cannot be read, or not without doubt; the message says why and quotes nothing."""


class Path:
    """One compiled JSONPath."""

    def __init__(self, query: JSONPathQuery) -> None:
        self._query = query
        self._steps = _steps(query)

    @property
    def names(self) -> frozenset[str] | None:
        """The member names that it goes through; None where that depends on the document."""
        if self._steps is None:
            return None
        return frozenset(step for step in self._steps if isinstance(step, str))

    def find(self, document: object) -> Sequence[object]:
        """The nodes' values, in order. Raises NotReadable for a document that is nested too deeply for it."""
        if self._steps is not None:
            return _walk(document, self._steps)
        try:
            return self._query.find(document).values()  # type: ignore[arg-type]
        except JSONPathError as error:
            raise NotReadable("is nested too deeply") from error


class Documents:
    """Reads JSON, in which none of the names that these paths go through is there twice."""

    def __init__(self, paths: Iterable[Path]) -> None:
        names = [path.names for path in paths]
        plain = [found for found in names if found is not None and all(map(_PLAIN_NAME.fullmatch, found))]
        # Of any other path all members may matter, and a name with other characters can be escaped in many ways.
        self._always_slow = len(plain) != len(names)
        self._quoted = tuple(f'"{name}"'.encode() for name in sorted(frozenset().union(*plain)))

    def read(self, data: bytes) -> object:
        """The parsed document. Raises NotReadable."""
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise NotReadable("is no JSON") from None
        if _is_compact(data, document):
            return document
        if self._always_slow or b"\\u" in data or any(data.count(name) > 1 for name in self._quoted):
            refuse_repeated_members(data)
        return document


def _is_compact(data: bytes, document: object) -> bool:
    """Whether the data are the document written as short as possible: then no member of them was dropped in reading."""
    try:
        return orjson.dumps(document) == data
    except orjson.JSONEncodeError:  # nested more deeply than it is written
        return False


def refuse_repeated_members(data: bytes) -> None:
    """Raises NotReadable if a member's name is twice in one object, anywhere."""
    try:
        json.loads(data, object_pairs_hook=_once, parse_float=_ignore, parse_int=_ignore)
    except RecursionError:
        raise NotReadable("is nested too deeply") from None


@cache
def compile_path(path: str) -> Path:
    """Raises ValueError, one line, for what is no RFC 9535 JSONPath."""
    try:
        return Path(JSONPathEnvironment().compile(path))
    except JSONPathError as error:
        raise ValueError(f"is no JSONPath of RFC 9535: {str(error).splitlines()[0]}") from None


def _steps(query: JSONPathQuery) -> tuple[Step, ...] | None:
    """Names and indices of a singular path (RFC 9535 §2.3.5.1), which a walk of its own follows ten times faster."""
    if not query.singular_query():
        return None
    selectors = [segment.selectors[0] for segment in query.segments]
    return tuple(
        selector.name if isinstance(selector, NameSelector) else selector.index
        for selector in selectors
        if isinstance(selector, NameSelector | IndexSelector)
    )


def _walk(document: Any, steps: tuple[Step, ...]) -> Sequence[object]:
    for step in steps:
        # An array takes no name, an object no number.
        if type(document) is not (dict if type(step) is str else list):
            return ()
        inside: Any = document
        try:
            document = inside[step]
        except (KeyError, IndexError):
            return ()
    return (document,)


def _once(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise NotReadable("has a member twice in one object")


def _ignore(_: str) -> None:
    """Numbers do not matter here, and a very long one would not be read at all."""
