"""Warns of each `not` that something undefined can turn around.

`not f(x)` holds where `f(x)` is false, and where it is undefined; `not input.item.topic == "x"` holds too where there is no
topic. But where an argument is undefined, as in `not f(input.item.topic)`, the whole line is, so that a denial denies
nothing (OPA takes arguments out of the negation, those of `==` excepted). Both read as if they were asked and answered.
Found by looking at the syntax only: a warning asks for a look, and is no proof.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.core.rulebook.definitions import DataPath, Definition, aliases, definitions
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.required import RequiredInput
from broker.core.rulebook.syntax import (
    Node,
    head,
    is_test_package,
    line_in,
    node,
    nodes,
    package_path,
    walk,
    without_annotations,
)

_DECLARING = frozenset({"assign", "eq"})
_EQUALITY = frozenset({"eq", "equal"})
_SHOWN_CHARACTERS = 80


def negation_warnings(modules: Mapping[str, Node], files: Mapping[str, bytes]) -> list[Finding]:
    """Warnings for the modules (path -> syntax tree), by path and line; `files` holds their schemas."""
    deciding = {path: module for path, module in modules.items() if not is_test_package(module)}
    defined = definitions(deciding.values())
    found: list[Finding] = []
    for path, module in sorted(deciding.items()):
        required = RequiredInput(module, files)
        for rule in nodes(module.get("rules")):
            scope = _Scope(module, rule, defined, required)
            for line, what, remedy in sorted(set(scope.warnings())):
                found.append(Finding(path, line, what, remedy, Severity.WARNING))
    return found


_Warning = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class _Named:
    """What a term refers to: a rule, and whether it goes on into its value."""

    definition: Definition
    goes_on: bool


class _Scope:
    """One rule, in which names stand for something."""

    def __init__(
        self, module: Node, rule: Node, defined: Mapping[DataPath, Definition], required: RequiredInput
    ) -> None:
        self._rule = without_annotations(rule)
        self._package = package_path(module)
        self._aliases = aliases(module)
        self._defined = defined
        self._required = required
        self._locals = set(_declared(self._rule))

    def warnings(self) -> Iterator[_Warning]:
        """One for each way in which a `not` of the rule can meet something undefined."""
        for line, part in walk(self._rule, line_in(self._rule, 1)):
            if part.get("negated"):
                terms = part.get("terms")
                if isinstance(terms, Mapping):
                    yield from self._asked(terms, line)
                else:
                    yield from self._called(nodes(terms), line)

    def _called(self, terms: Sequence[Node], line: int) -> Iterator[_Warning]:
        """A call that is negated: operator and operands."""
        operator, *operands = terms
        yield from self._asked(operator, line)
        compares = head(nodes(operator.get("value"))) in _EQUALITY
        for operand in operands:
            if compares and operand.get("type") in {"ref", "var"}:
                if self._may_be_missing(operand):
                    what = f"`not` holds as well where {_written(operand)} is missing"
                    yield line, what, "ask first whether it is there, or make sure that it is meant"
            else:
                yield from self._operand(operand, line)

    def _asked(self, term: Node, line: int) -> Iterator[_Warning]:
        """What is negated itself: undefined counts as false."""
        if term.get("type") == "call":
            yield from self._called(nodes(term.get("value")), line)
            return
        named = self._named(term)
        if named is not None and not named.goes_on and named.definition.can_be_undefined:
            definition = named.definition
            what = f"`not` holds as well where {definition.name} is undefined, which no default rules out"
            yield line, what, f"add `{definition.default}`, or make sure that it is meant"

    def _operand(self, term: Node, line: int) -> Iterator[_Warning]:
        """What the negated expression needs first: without it there is no answer at all."""
        kind = term.get("type")
        if kind == "call":
            operator, *operands = nodes(term.get("value"))
            called = self._named(operator)
            if called is not None and called.definition.can_be_undefined:
                yield self._skipped(term, line)
            for operand in operands:
                yield from self._operand(operand, line)
        elif kind in {"array", "set", "object"}:
            for each in _members(term):
                yield from self._operand(each, line)
        elif self._may_be_missing(term):
            yield self._skipped(term, line)

    def _may_be_missing(self, term: Node) -> bool:
        named = self._named(term)
        if named is not None:
            return named.goes_on or named.definition.can_be_undefined
        terms = nodes(term.get("value")) if term.get("type") == "ref" else ()
        if len(terms) < 2:
            return False
        return head(terms) != "input" or not self._required.has(terms[1:])

    def _skipped(self, term: Node, line: int) -> _Warning:
        what = f"where {_written(term)} is missing, this line has no answer, and the rule says nothing"
        return line, what, "ask through a function with a default, which takes what would hold it"

    def _named(self, term: Node) -> _Named | None:
        """The rule that a name or reference means, if it means one."""
        terms = nodes(term.get("value")) if term.get("type") == "ref" else [term]
        first = head(terms)
        if first is None or first in self._locals or first == "input":
            return None
        rest = terms[1:]
        below: DataPath = () if first == "data" else self._aliases.get(first, (*self._package, first))
        path = below
        for used, each in enumerate(rest):
            if path in self._defined:
                return _Named(self._defined[path], goes_on=used < len(rest))
            if each.get("type") != "string":
                return None
            path = (*path, str(each.get("value")))
        return _Named(self._defined[path], goes_on=False) if path in self._defined else None


def _declared(rule: Node) -> Iterator[str]:
    """Names of a rule's own: arguments, and what `:=`, `=`, `some` and `every` bind."""
    for _, part in walk(rule, 0):
        for argument in nodes(part.get("args")):
            yield from _variables(argument)
        terms = part.get("terms")
        if isinstance(terms, Mapping):
            for symbol in nodes(terms.get("symbols")):
                # `some x`, or a call: `some x in xs`, `some key, x in xs`
                bound = nodes(symbol.get("value"))[1:-1] if symbol.get("type") == "call" else [symbol]
                yield from (name for each in bound for name in _variables(each))
            if "domain" in terms:
                yield from _variables(node(terms.get("key")))
                yield from _variables(node(terms.get("value")))
        elif (expression := nodes(terms)) and head(nodes(expression[0].get("value"))) in _DECLARING:
            yield from _variables(expression[1])


def _variables(term: Node) -> Iterator[str]:
    """The names in a pattern."""
    if term.get("type") == "var":
        yield str(term.get("value"))
    elif term.get("type") in {"array", "object"}:
        for member in _members(term):
            yield from _variables(member)


def _members(term: Node) -> Iterable[Node]:
    content = term.get("value")
    if term.get("type") != "object" or not isinstance(content, Sequence):
        return nodes(content)
    return [each for pair in content for each in nodes(pair)]


def _written(term: Node) -> str:
    """The term as it stands in the module."""
    text = node(term.get("location")).get("text")
    if isinstance(text, str):
        shown = " ".join(base64.b64decode(text).decode(errors="replace").split())
        if shown:
            return shown[:_SHOWN_CHARACTERS]
    terms = nodes(term.get("value"))
    return ".".join(str(each.get("value")) for each in terms)[:_SHOWN_CHARACTERS] or "an operand"
