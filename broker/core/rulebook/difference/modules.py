"""Differences between Rego modules, rule by rule: their syntax trees, without places and comments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from broker.core.rulebook.difference.model import Change, Detail, How
from broker.core.rulebook.syntax import Node, dotted, line_in, node, nodes, package_path

_PLACES = frozenset({"location"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule: its canonical text, what is said about it, and where it stands."""

    text: bytes
    annotations: bytes
    file: str
    line: int


_ByName = Mapping[str, Sequence[_Rule]]


def module_changes(old: Mapping[str, Node], new: Mapping[str, Node], told: set[str]) -> Iterator[Change]:
    """What is different between the modules (path -> syntax tree) of the folders that were touched.

    What an import means depends on its module, so a changed one is told by itself. Adds to `told` the files whose
    differences are.
    """
    before, after = _rules(old), _rules(new)
    for name in sorted({*before, *after}):
        one, other = before.get(name, ()), after.get(name, ())
        gone, come = _without(one, other), _without(other, one)
        told |= {rule.file for rule in (*gone, *come)}
        if gone or come:
            how = How.CHANGED if one and other else How.ADDED if other else How.REMOVED
            # Where something new stands; else where something is left; else where it stood.
            at = (*come, *other, *gone)[0]
            yield Change(
                _kind(at.file), name, how, _owner(at.file), at.file, at.line, _count(one, other, how)
            )
        elif sorted(rule.annotations for rule in one) != sorted(rule.annotations for rule in other):
            told |= {rule.file for rule in (*one, *other)}
            said = (Detail("metadata", "otherwise", "as written there"),)
            at = other[0]
            yield Change(_kind(at.file), name, How.CHANGED, _owner(at.file), at.file, at.line, said)
    for path in sorted({*old, *new}):
        yield from _header_changes(path, old.get(path, {}), new.get(path, {}), told)


def _rules(modules: Mapping[str, Node]) -> _ByName:
    found: dict[str, list[_Rule]] = defaultdict(list)
    for path in sorted(modules):
        package = package_path(modules[path])
        for rule in nodes(modules[path].get("rules")):
            name = dotted(("data", *package, str(node(rule.get("head")).get("name"))))
            text = _canonical({key: rule[key] for key in rule if key != "annotations"})
            annotations = _canonical(rule.get("annotations", []))
            found[name].append(_Rule(text, annotations, path, line_in(rule, 1)))
    return found


def _without(rules: Sequence[_Rule], others: Sequence[_Rule]) -> list[_Rule]:
    """The rules that the others do not hold, each as often as it is missing there."""
    left = Counter(rule.text for rule in others)
    found = []
    for rule in rules:
        if left[rule.text] > 0:
            left[rule.text] -= 1
        else:
            found.append(rule)
    return found


def _header_changes(path: str, old: Node, new: Node, told: set[str]) -> Iterator[Change]:
    """Imports, and what is said about the package."""
    if not old or not new:
        return
    before, after = _imports(old), _imports(new)
    found = [Detail("import", name, None) for name in sorted(before - after)]
    found += [Detail("import", None, name) for name in sorted(after - before)]
    if _of_package(old) != _of_package(new):
        found.append(Detail("metadata", "otherwise", "as written there"))
    if found:
        told.add(path)
        yield Change("module", path, How.CHANGED, _owner(path), path, 1, tuple(found))


def _imports(module: Node) -> set[str]:
    found = set()
    for imported in nodes(module.get("imports")):
        terms = nodes(node(imported.get("path")).get("value"))
        alias = imported.get("alias")
        named = dotted([str(term.get("value")) for term in terms])
        found.add(f"{named} as {alias}" if alias else named)
    return found


def _of_package(module: Node) -> list[bytes]:
    annotations = nodes(module.get("annotations"))
    return [_canonical(each) for each in annotations if each.get("scope") in {"package", "subpackages"}]


def _canonical(value: object) -> bytes:
    """One text for all trees that differ in places alone: what each part is, before its own parts.

    Neither recursion nor orjson reaches as deep as trees may be.
    """
    found: list[object] = []
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            keys = sorted(part.keys() - _PLACES)
            found.append({"keys": keys})
            left += (part[key] for key in reversed(keys))
        elif isinstance(part, list):
            found.append({"length": len(part)})
            left += reversed(part)
        else:
            found.append(part)
    return orjson.dumps(found)


def _count(before: Sequence[_Rule], after: Sequence[_Rule], how: How) -> tuple[Detail, ...]:
    """How many rules of a changed name there are, where that is different."""
    if how is not How.CHANGED or len(before) == len(after):
        return ()
    return (Detail("rules of this name", str(len(before)), str(len(after))),)


def _kind(path: str) -> str:
    return "Rego test" if path.endswith("_test.rego") else "rule"


def _owner(path: str) -> str | None:
    parts = path.split("/")
    return parts[1] if parts[0] == "agencies" and len(parts) > 2 else None
