"""Syntax trees of Rego modules, as OPA's own parser gives them."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import orjson

Node = Mapping[str, object]
"""A JSON object of `opa parse --format json --json-include locations,-comments`."""

ParseModule = Callable[[str, bytes], Node]
"""(path, source) -> the module's syntax tree, with locations. Raises ValueError if it is not valid Rego."""


def remembering(parse: ParseModule) -> ParseModule:
    """The same parser, which parses each source once: every parse is a run of OPA."""
    known: dict[tuple[str, bytes], Node] = {}

    def parse_once(path: str, source: bytes) -> Node:
        if (path, source) not in known:
            known[path, source] = parse(path, source)
        return known[path, source]

    return parse_once


class PackedTrees:
    """The same parser for one revision after the other, of whose modules most are the same; usable by several threads.

    limit_bytes: of the trees that are kept, packed, those that were asked for last. One of more levels than orjson writes
    is parsed each time.
    """

    def __init__(self, parse: ParseModule, limit_bytes: int = 16 << 20) -> None:
        self._parse = parse
        self._left_bytes = limit_bytes
        self._packed: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: str, source: bytes) -> Node:
        """See ParseModule."""
        key = path, hashlib.sha256(source).digest()
        with self._lock:
            packed = self._packed.get(key)
            if packed is not None:
                self._packed.move_to_end(key)
        if packed is not None:
            return node(orjson.loads(zlib.decompress(packed)))
        tree = self._parse(path, source)
        with suppress(orjson.JSONEncodeError):
            self._keep(key, zlib.compress(orjson.dumps(tree), 1))
        return tree

    def _keep(self, key: tuple[str, bytes], packed: bytes) -> None:
        with self._lock:
            self._left_bytes += len(self._packed.pop(key, b"")) - len(packed)
            self._packed[key] = packed
            while self._left_bytes < 0:
                self._left_bytes += len(self._packed.popitem(last=False)[1])


def package_path(module: Node) -> tuple[str, ...]:
    """The package's data path without `data`, e.g. ("agencies", "ems")."""
    terms = nodes(node(module.get("package")).get("path"))
    return tuple(str(term.get("value")) for term in terms[1:])


def is_test_package(module: Node) -> bool:
    """Whether the module holds tests, which decide nothing."""
    return "".join(package_path(module)[-1:]).endswith("_test")


def walk(value: object, line: int) -> Iterator[tuple[int, Node]]:
    """Every object of the tree with its line; of a reference to data the head is not visited again."""
    if isinstance(value, Mapping):
        line = line_in(value, line)
        yield line, value
        skip_head = value.get("type") == "ref" and head(nodes(value.get("value"))) == "data"
        for key, child in value.items():
            if key == "value" and skip_head:
                yield from walk(nodes(child)[1:], line)
            elif key != "location":
                yield from walk(child, line)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for child in value:
            yield from walk(child, line)


def without_annotations(rule: Node) -> Node:
    """Annotations are for people and the type checker; their paths are not evaluated."""
    return {key: value for key, value in rule.items() if key != "annotations"}


def head(terms: Sequence[Node]) -> str | None:
    """The variable with which a reference begins."""
    if not terms or terms[0].get("type") != "var":
        return None
    return str(terms[0].get("value"))


def static_path(terms: Sequence[Node]) -> tuple[str, ...] | None:
    """The path that the terms spell, or None if one of them is computed."""
    if any(term.get("type") != "string" for term in terms):
        return None
    return tuple(str(term.get("value")) for term in terms)


def dotted(path: Sequence[str]) -> str:
    """A path as people write it."""
    return ".".join(path)


def line_in(part: Node, otherwise: int) -> int:
    """The line on which a part of the tree stands."""
    row = node(part.get("location")).get("row")
    return row if isinstance(row, int) else otherwise


def node(value: object) -> Node:
    """The value, if it is an object; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def nodes(value: object) -> Sequence[Node]:
    """The value, if it is a list, as objects; else none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return [item if isinstance(item, Mapping) else {"value": item} for item in value]
