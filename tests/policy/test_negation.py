"""Warnings about `not`: each is held against what the real OPA answers where something is missing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from broker.core.rulebook.findings import Severity
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.negation import negation_warnings
from tests.policy.engine import RULEBOOK, parse_module, run_opa

pytestmark = pytest.mark.opa

FILES = read_rulebook(RULEBOOK).files
HEAD = """# METADATA
# schemas:
#   - input: schema["agency.schema"]
package agencies.ems

import data.entente.lib

default _safe(_) := false

_safe(value) if value == "x"

_bare(value) if value == "x"

_complete := input.item.topic

_total(_) := true

_either(value) := true if value == "x" else := false

_pattern("x") := true

_set contains "x" if input.item.topic == "x"

_table[name] := 1 if some name in ["x"]

_fixed := {"x": 1}

"""
HOLDS = "`not` holds as well where"
SKIPS = "this line has no answer"

CASES: dict[str, tuple[str, str | None]] = {
    # name: (the line, what is warned of)
    "a function with a default": ("not _safe(input.item)", None),
    "the library": ('not lib.has_role(input.item, "x")', None),
    "a function that is always there": ("not _total(input.item)", None),
    "an else without a condition": ("not _either(input.item)", None),
    "a set's member": ('not _set["x"]', None),
    "a set": ('not "x" in _set', None),
    "an object's member": ("not _table.x", None),
    "what the schema requires": ('not input.side == "x"', None),
    "what the schema requires, below": ('not input.item.action == "x"', None),
    "what the schema requires, as argument": ("not _safe(input.item.subject)", None),
    "a local name": ('value := input.side; not value == "x"', None),
    "a local name that some declares": ("some value in [1]; not _safe(value)", None),
    "a local name that hides a rule": ('_complete := "x"; not _complete == "y"', None),
    "presence itself": ("not input.item.topic", None),
    "a function without a default": ("not _bare(input.item)", HOLDS),
    "a pattern": ("not _pattern(input.item)", HOLDS),
    "a rule without a default": ("not _complete", HOLDS),
    "a rule that is compared": ('not _complete == "x"', HOLDS),
    "input that is compared": ('not input.item.topic == "x"', HOLDS),
    "a table's member that is compared": ("not _fixed[input.side] == 1", HOLDS),
    "an argument that may be missing": ("not _safe(input.item.topic)", SKIPS),
    "an operand that may be missing": ('not input.item.topic > "x"', SKIPS),
    "an operand of a built-in": ('not startswith(input.item.topic, "x")', SKIPS),
    "a member of what may be missing": ('not input.item.topic in ["x"]', SKIPS),
    "a list that holds what may be missing": ("not _safe([input.item.topic])", SKIPS),
    "an object that holds what may be missing": ('not _safe({"x": input.item.topic})', SKIPS),
    "a call in an argument": ("not _safe(_bare(input.item))", SKIPS),
    "a built-in's result that is compared": ("not count(input.item.topic) == 1", SKIPS),
    "a rule as argument": ("not _safe(_complete)", SKIPS),
    "a table's member as argument": ("not _safe(_fixed[input.side])", SKIPS),
}


def module(line: str) -> str:
    return f'{HEAD}deny contains "no" if {{\n\t{line}\n}}\n'


@pytest.mark.parametrize(("line", "warned"), CASES.values(), ids=CASES.keys())
def test_each_way_is_told_and_opa_answers_so(
    opa_binary: Path, tmp_path: Path, line: str, warned: str | None
) -> None:
    source = module(line)
    path = "agencies/ems/module.rego"
    modules = {path: parse_module(opa_binary, path, source.encode())}
    modules["entente/lib/lib.rego"] = parse_module(opa_binary, "lib.rego", FILES["entente/lib/lib.rego"])
    found = negation_warnings(modules, FILES)
    assert [warned in finding.what for finding in found if warned] == ([True] if warned else [])
    assert warned or not found
    line_number = source.splitlines().index(f"\t{line}") + 1
    assert {(finding.file, finding.line) for finding in found} <= {(path, line_number)}
    assert {finding.severity for finding in found} <= {Severity.WARNING}

    if warned:  # for an item of which all is missing that may be
        (tmp_path / "module.rego").write_text(source)
        (tmp_path / "lib.rego").write_bytes(FILES["entente/lib/lib.rego"])
        minimal = {"agency": "ems", "side": "owner", "item": {"action": "deliver", "subject": {}}}
        done = run_opa(
            opa_binary,
            *("eval", "--data", str(tmp_path), "--stdin-input", "--format", "raw", "data.agencies.ems.deny"),
            stdin=json.dumps(minimal),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == (["no"] if warned == HOLDS else [])


def test_negations_inside_comprehensions_and_every_are_found(opa_binary: Path) -> None:
    source = HEAD + (
        'deny contains "a" if count({x | some x in ["y"]; not _bare(x)}) > 0\n\n'
        'deny contains "b" if {\n\tevery x in ["y"] {\n\t\tnot _bare(x)\n\t}\n}\n'
    )
    parse = partial(parse_module, opa_binary)
    path = "agencies/ems/module.rego"
    found = negation_warnings({path: parse(path, source.encode())}, FILES)
    lines = source.splitlines()
    assert ["not _bare" in lines[(finding.line or 0) - 1] for finding in found] == [True, True]


def test_helpers_of_other_packages_are_known(opa_binary: Path) -> None:
    helper = b"package entente.extra\n\nopen(value) if value == 1\n"
    user = b"package entente.more\n\nimport data.entente.extra as e\n\nx if not e.open(2)\n"
    user += b"\ny if not data.entente.extra.open(2)\n"
    parse = partial(parse_module, opa_binary)
    modules = {name: parse(name, source) for name, source in (("a.rego", helper), ("b.rego", user))}
    assert [(finding.file, finding.line) for finding in negation_warnings(modules, {})] == [
        ("b.rego", 5),
        ("b.rego", 7),
    ]


def test_without_a_schema_nothing_is_taken_to_be_there(opa_binary: Path) -> None:
    source = b'package entente.more\n\nx if not input.side == "y"\n'
    found = negation_warnings({"a.rego": parse_module(opa_binary, "a.rego", source)}, FILES)
    assert [finding.line for finding in found] == [3]


def test_the_default_rulebook_s_negations_are_sound(opa_binary: Path) -> None:
    modules = {
        path: parse_module(opa_binary, path, source)
        for path, source in FILES.items()
        if path.endswith(".rego")
    }
    assert len(modules) > 20
    assert negation_warnings(modules, FILES) == []
