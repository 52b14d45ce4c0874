"""Which rules the modules of a rulebook define, and which of them can be undefined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.core.rulebook.syntax import Node, head, node, nodes, package_path

DataPath = tuple[str, ...]
"""Without `data`: ("entente", "lib", "holds")."""

_FIXED = frozenset({"null", "boolean", "number", "string"})
_ALWAYS_THERE = frozenset({"arraycomprehension", "setcomprehension", "objectcomprehension"})


@dataclass(frozen=True, slots=True)
class Definition:
    """All rules of one name together.

    arguments: how many a function takes; None for what is none. collects: it gathers members, so it is there even with
    none of them. always: whatever the input, it has a value.
    """

    name: str
    arguments: int | None = None
    collects: bool = False
    always: bool = False

    @property
    def can_be_undefined(self) -> bool:
        """Whether there may be no value."""
        return not self.collects and not self.always

    @property
    def default(self) -> str:
        """How a default for it begins."""
        places = "" if self.arguments is None else f"({', '.join('_' * self.arguments)})"
        return f"default {self.name}{places} := …"


def definitions(modules: Iterable[Node]) -> dict[DataPath, Definition]:
    """Every rule of these modules, by its data path."""
    found: dict[DataPath, Definition] = {}
    for module in modules:
        for rule in nodes(module.get("rules")):
            path, definition = _definition(package_path(module), rule)
            before = found.get(path)
            if before is not None:
                collects, always = before.collects or definition.collects, before.always or definition.always
                definition = replace(definition, collects=collects, always=always)
            found[path] = definition
    return found


def aliases(module: Node) -> Mapping[str, DataPath]:
    """What the imported names of a module stand for, of those that stand for data."""
    found: dict[str, DataPath] = {}
    for imported in nodes(module.get("imports")):
        terms = nodes(node(imported.get("path")).get("value"))
        path = tuple(str(term.get("value")) for term in terms[1:])
        if head(terms) == "data" and path:
            found[str(imported.get("alias") or path[-1])] = path
    return found


def _definition(package: DataPath, rule: Node) -> tuple[DataPath, Definition]:
    defined = node(rule.get("head"))
    terms = nodes(defined.get("ref"))
    # `a.b := 1` defines one rule of that path; `a[x] := 1` one object of many members.
    fixed = [term for term in terms[1:] if term.get("type") == "string"]
    collects = len(fixed) + 1 < len(terms) or ("key" in defined and "value" not in defined)
    name = ".".join(str(term.get("value")) for term in (*terms[:1], *([] if collects else fixed)))
    arguments = len(nodes(defined["args"])) if "args" in defined else None
    always = bool(rule.get("default")) or any(_is_total(clause) for clause in _clauses(rule))
    return (*package, *name.split(".")), Definition(name, arguments, collects, always)


def _clauses(rule: Node) -> Iterator[Node]:
    """A rule and what follows it by `else`."""
    while rule:
        yield rule
        rule = node(rule.get("else"))


def _is_total(clause: Node) -> bool:
    """Whether it gives a value for any arguments: no condition, no pattern, and nothing in the value that may be missing."""
    defined = node(clause.get("head"))
    arguments = nodes(defined.get("args"))
    body = nodes(clause.get("body"))
    unconditional = all(each.get("generated") for each in body)
    patterns = any(term.get("type") != "var" for term in arguments)
    return unconditional and not patterns and _is_there(node(defined.get("value")), arguments)


def _is_there(value: Node, arguments: Sequence[Node]) -> bool:
    kind, content = value.get("type"), value.get("value")
    if kind == "var":
        return any(term.get("value") == content for term in arguments)
    if kind in {"array", "set"}:
        return all(_is_there(each, arguments) for each in nodes(content))
    if kind == "object" and isinstance(content, Sequence):
        return all(_is_there(each, arguments) for pair in content for each in nodes(pair))
    return kind in _FIXED or kind in _ALWAYS_THERE
