"""Who owns what inside a rulebook's Rego modules.

Judged by the package that a module declares and the data paths that it refers to, as OPA's own parser sees them, because
file names prove nothing: a file under `agencies/ems/` may declare `package entente.decision`. An agency's module may
refer to its `input`, to `data.agencies.<itself>` and to the public library, and to nothing else, since the agreements of
others are secret. What cannot be told from the text, such as `data[x]`, is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from broker.core.rulebook.syntax import (
    Node,
    ParseModule,
    dotted,
    head,
    is_test_package,
    line_in,
    node,
    nodes,
    package_path,
    static_path,
    walk,
    without_annotations,
)

LIBRARY = ("entente", "lib")
"""The data path of what every agency's module may use."""

ANSWERS = frozenset({"deny", "redact", "oblige"})
"""The sets that an agency's module may define for the exchange to ask."""

_TIME = "time"


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a module is refused; `line` counts from 1, `reason` is one line."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def check_ownership(
    files: Mapping[str, bytes], parse: ParseModule, *, agencies: Collection[str], time_dependent: bool
) -> list[Finding]:
    """Findings for every `.rego` file of a rulebook (path inside it -> content), by path and line; none is good.

    agencies: the names that are registered. time_dependent: as the manifest declares it.
    """
    findings: list[Finding] = []
    for path in sorted(name for name in files if name.endswith(".rego")):
        try:
            module = parse(path, files[path])
        except ValueError:
            findings.append(Finding(path, 1, "is not valid Rego; run `opa check` on it"))
            continue
        found = [
            *_package_faults(path, module, agencies),
            *_test_faults(path, module),
            *_agency_faults(module),
        ]
        if not time_dependent:
            found += _time_faults(module)
        findings += [Finding(path, line, reason) for line, reason in sorted(set(found))]
    return findings


_Fault = tuple[int, str]


def _package_faults(path: str, module: Node, agencies: Collection[str]) -> Iterator[_Fault]:
    """The folder and the package have to name the same owner, or the folder would hide whose rules these are."""
    package = package_path(module)
    folders = PurePosixPath(path).parts[:-1]
    line = line_in(node(module.get("package")), 1)
    if package[:1] == ("entente",) and len(package) > 1:
        if folders[:1] != ("entente",):
            yield line, f"declares package {dotted(package)}, which belongs under entente/; move it"
    elif package[:1] == ("agencies",) and len(package) > 1:
        if folders[:2] != package[:2]:
            yield (
                line,
                f"declares package {dotted(package)}, which belongs under agencies/{package[1]}/; move it",
            )
        if package[1] not in agencies:
            yield (
                line,
                f"declares the module of '{package[1]}', which is no registered agency; register it first",
            )
    else:
        yield (
            line,
            f"declares package {dotted(package)}; only entente.<name> and agencies.<agency> may be declared",
        )


def _test_faults(path: str, module: Node) -> Iterator[_Fault]:
    """Files of tests are not loaded: a denial that stood in one by mistake would deny nothing."""
    package = package_path(module)
    if path.endswith("_test.rego") != is_test_package(module):
        yield (
            line_in(node(module.get("package")), 1),
            f"declares package {dotted(package)}; tests, and only tests, have package and file end in _test",
        )


def _agency_faults(module: Node) -> Iterator[_Fault]:
    """What a module in an agency's folder or package does that it may not; nothing for the exchange's own."""
    package = package_path(module)
    if package[:1] != ("agencies",) or len(package) < 2:
        return
    owned = package[:2]
    for imported in nodes(module.get("imports")):
        yield from _import_faults(imported, owned)
    for rule in nodes(module.get("rules")):
        for line, part in walk(without_annotations(rule), line_in(rule, 1)):
            yield from _reference_faults(line, part, owned)
        if package == owned:
            yield from _answer_faults(rule)


def _import_faults(imported: Node, owned: tuple[str, ...]) -> Iterator[_Fault]:
    path = node(imported.get("path"))
    terms = nodes(path.get("value"))
    line = line_in(imported, 1)
    if head(terms) == "data":
        yield from _data_faults(line, terms, owned)
    elif head(terms) not in {"input", "rego", "future"}:
        yield line, "imports something that is neither its input nor the public library; remove the import"


def _reference_faults(line: int, part: Node, owned: tuple[str, ...]) -> Iterator[_Fault]:
    """Faults of one node of the tree; `walk` visits a reference before its parts."""
    if "with" in part:
        for replaced in nodes(part.get("with")):
            yield from _with_faults(line, replaced)
    terms = nodes(part.get("value")) if part.get("type") == "ref" else ()
    if head(terms) == "data":
        yield from _data_faults(line, terms, owned)
    elif head(terms) == "rego":
        yield line, "refers to rego.*, which tells about other modules; remove it"
    elif part.get("type") == "var" and part.get("value") == "data":
        yield (
            line,
            "uses `data` as a whole or as a name; refer to data.agencies of itself or to the library by path",
        )


def _with_faults(line: int, replaced: Node) -> Iterator[_Fault]:
    if head(nodes(node(replaced.get("target")).get("value"))) != "input":
        yield line, "replaces something else than its input by `with`; remove it"


def _data_faults(line: int, terms: Sequence[Node], owned: tuple[str, ...]) -> Iterator[_Fault]:
    for permitted in (owned, LIBRARY):
        if static_path(terms[1 : len(permitted) + 1]) == permitted:
            return
    named = ".".join(["data", *(_shown(term) for term in terms[1:3])])
    yield (
        line,
        (
            f"refers to {named}; an agency's module may refer only to input, {dotted(('data', *owned))} "
            f"and data.{dotted(LIBRARY)}"
        ),
    )


def _answer_faults(rule: Node) -> Iterator[_Fault]:
    """The exchange asks for sets: rules that add to one never conflict, and cannot be undefined."""
    defined = node(rule.get("head"))
    terms = nodes(defined.get("ref"))
    name = head(terms)
    adds_to_set = len(terms) == 1 and "key" in defined and "value" not in defined and "args" not in defined
    if name not in ANSWERS:
        if adds_to_set and not str(name).startswith("_"):
            # Most likely a misspelt `deny`, which would fail open.
            yield (
                line_in(rule, 1),
                f"defines the set `{name}`, which nobody asks for; begin its name with '_'",
            )
        return
    if not adds_to_set or rule.get("default"):
        yield line_in(rule, 1), f"defines `{name}` otherwise than by `{name} contains ...`; write it so"


def _time_faults(module: Node) -> Iterator[_Fault]:
    """Any mention of the item's `time`; a key that is computed escapes, but then the item holds no time to find.

    Test packages do not decide anything and may mention it.
    """
    if is_test_package(module):
        return
    for source in (*nodes(module.get("imports")), *nodes(module.get("rules"))):
        for line, part in walk(without_annotations(source), line_in(source, 1)):
            if part.get("type") == "string" and part.get("value") == _TIME:
                yield (
                    line,
                    "refers to the time, but manifest.yaml says `time_dependent: false`; change one of them",
                )


def _shown(term: Node) -> str:
    return str(term.get("value")) if term.get("type") == "string" else "<computed>"
