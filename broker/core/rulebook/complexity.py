"""Whether modules are simple enough to be looked at.

OPA's compiler takes twice as long for each comprehension within another (measured: 12 deep half a second, 14 deep 2.5 s,
20 deep more than a minute), and the text of a syntax tree grows with the square of its depth. So whoever may write a module
could hold up everybody's checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from broker.core.rulebook.findings import Finding
from broker.core.rulebook.syntax import Node, ParseModule, line_in
from broker.ports.rulebook_compiler import TooComplex

MODULE_LIMIT_BYTES = 256 * 1024
BRACKETS_LIMIT = 50
COMPREHENSIONS_LIMIT = 5
TREE_LIMIT = 600
"""The most levels of a syntax tree, which others walk by recursion; a bracket adds two, an operator in a row one."""

_NOT_CODE = re.compile(rb'"(?:\\.|[^"\\\n])*"|`[^`]*`|#[^\n]*')
_COMPREHENSIONS = frozenset({"arraycomprehension", "setcomprehension", "objectcomprehension"})


def check_complexity(files: Mapping[str, bytes], parse: ParseModule) -> list[Finding]:
    """A finding for each module that is too large or too deep; what does not parse is somebody else's finding."""
    found: list[Finding] = []
    for path in sorted(name for name in files if name.endswith(".rego")):
        finding = _of_text(path, files[path])
        if finding is None:
            try:
                finding = _of_tree(path, parse(path, files[path]))
            except TooComplex:
                what = "is too deeply nested to be checked"
                # The next one may take as long.
                return [*found, Finding(path, 1, what, "give parts of it names of their own")]
            except ValueError:
                continue
        if finding is not None:
            found.append(finding)
    return found


def _of_text(path: str, source: bytes) -> Finding | None:
    if len(source) > MODULE_LIMIT_BYTES:
        return Finding(path, None, f"is larger than {MODULE_LIMIT_BYTES} bytes", "split it")
    depth = 0
    code = _NOT_CODE.sub(lambda found: b"\n" * found.group().count(b"\n"), source)
    for position, character in enumerate(code):
        if character in b"([{":
            depth += 1
            if depth > BRACKETS_LIMIT:
                line = code.count(b"\n", 0, position) + 1
                what = f"has more than {BRACKETS_LIMIT} brackets within each other"
                return Finding(path, line, what, "give parts of it names of their own")
        elif character in b")]}":
            depth -= 1
    return None


def _of_tree(path: str, module: Node) -> Finding | None:
    for line, depth in _comprehensions(module, 1, 0, 0):
        if depth > COMPREHENSIONS_LIMIT:
            what = f"has more than {COMPREHENSIONS_LIMIT} comprehensions within each other"
            return Finding(path, line, what, "give parts of it names of their own")
    return None


def _comprehensions(value: object, line: int, depth: int, level: int) -> Iterator[tuple[int, int]]:
    """The line and depth of each comprehension. Raises TooComplex for a tree of too many levels."""
    if level > TREE_LIMIT:
        raise TooComplex
    if isinstance(value, Mapping):
        line = line_in(value, line)
        if value.get("type") in _COMPREHENSIONS:
            depth += 1
            yield line, depth
        for key, child in value.items():
            if key != "location":
                yield from _comprehensions(child, line, depth, level + 1)
    elif isinstance(value, list):
        for child in value:
            yield from _comprehensions(child, line, depth, level + 1)
