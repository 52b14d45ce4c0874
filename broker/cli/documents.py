"""JSON documents to publish: one document, an array of them, or one a line; strict, so that nothing changes on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import orjson

from broker.core.redact.accept import check_document
from broker.core.redact.paths import Path, Wildcard, format_path
from broker.errors import EntenteError


@dataclass(frozen=True, slots=True)
class Document:
    """One record's content: where it was found, its value, and its bytes as they will be sent."""

    place: str
    value: object
    content: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A place that holds no record, and why."""

    place: str
    problem: str


def read_documents(file: BinaryIO, records: Path | None) -> Iterator[Document | Fault]:
    """Documents in order; `records` selects them inside each document, and arrays stand for their elements.

    JSON Lines are read line by line, anything else whole. A faulty line costs only itself.
    """
    first = _first_line(file)
    second = _first_line(file) if _is_document(first) else b""
    if second:
        lines = (line for line in chain((first, second), file) if line.strip())
        for number, line in enumerate(lines, start=1):
            yield from _from_content(line.strip(), f"document {number}", records)
    else:
        yield from _from_content((first + file.read()).strip(), "document", records)


def select(value: object, path: Path) -> list[object]:
    """The values at a path, in order; none where a member is missing or of another kind."""
    found = [value]
    for segment in path:
        if isinstance(segment, Wildcard):
            found = [element for each in found if isinstance(each, list) for element in each]
        else:
            found = [each[segment] for each in found if isinstance(each, dict) and segment in each]
    return found


def select_text(value: object, path: Path) -> str:
    """The one string or number at a path, as text. Raises ValueError."""
    found = select(value, path)
    if len(found) != 1:
        raise ValueError(f"{format_path(path)} selects {len(found)} values, not one")
    if isinstance(found[0], bool) or not isinstance(found[0], str | int) or found[0] == "":
        raise ValueError(f"{format_path(path)} is not a string or a whole number")
    return str(found[0])


def _first_line(file: BinaryIO) -> bytes:
    """The next line that is not blank; empty at the end."""
    return next((line for line in file if line.strip()), b"")


def _is_document(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _from_content(content: bytes, place: str, records: Path | None) -> Iterator[Document | Fault]:
    try:
        value = check_document(content)
    except EntenteError as error:
        yield Fault(place, error.detail)
        return
    if records is None and not isinstance(value, list):
        yield Document(place, value, content)
        return
    found = [value] if records is None else select(value, records)
    if not found and records is not None:
        yield Fault(place, f"{format_path(records)} selects nothing")
    elements = [element for each in found for element in (each if isinstance(each, list) else [each])]
    for number, element in enumerate(elements, start=1):
        # Exact, because only numbers that survive being read and written were accepted.
        yield Document(f"{place}, record {number}", element, orjson.dumps(element))
