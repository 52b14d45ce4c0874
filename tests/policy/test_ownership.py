"""Agency modules that reach for what is not theirs are refused, whatever their file is called."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from broker.core.rulebook.ownership import Finding, check_ownership
from tests.policy.engine import RULEBOOK, parse_module

pytestmark = pytest.mark.opa

AGENCIES = frozenset({"ems", "cyber-centre", "transport"})


def findings_of(
    opa: Path, source: str, *, path: str = "agencies/ems/module.rego", time_dependent: bool = False
) -> list[Finding]:
    parse = partial(parse_module, opa)
    return check_ownership({path: source.encode()}, parse, agencies=AGENCIES, time_dependent=time_dependent)


def body(*lines: str) -> str:
    return "\n".join(
        ["package agencies.ems", "", 'deny contains "no" if {', *(f"\t{line}" for line in lines), "}"]
    )


PERMITTED = {
    "input": body('input.side == "consumer"', 'input.item.topic == "crash-reports"'),
    "library": body('data.entente.lib.has_role(input.item, "volunteer")'),
    "library by import": 'package agencies.ems\nimport data.entente.lib as l\ndeny contains "x" if l.ranks.red > 2\n',
    "itself": body("data.agencies.ems.helper"),
    "itself, computed below": body("some name", "data.agencies.ems.tables[name]"),
    "itself by import": 'package agencies.ems\nimport data.agencies.ems.tables\ndeny contains "x" if tables.y\n',
    "input replaced": body("data.agencies.ems.helper with input as {}"),
    "rego.v1": 'package agencies.ems\nimport rego.v1\ndeny contains "x" if input.side == "owner"\n',
    "metadata with a schema": '# METADATA\n# schemas:\n#   - data.x: schema.x\npackage agencies.ems\noblige contains "x"\n',
    "a package below its own": "package agencies.ems.tables\nlimits := [1]\n",
    "clock-free time functions": body('time.parse_rfc3339_ns("2026-01-01T00:00:00Z") > 0'),
}


@pytest.mark.parametrize("source", PERMITTED.values(), ids=PERMITTED.keys())
def test_what_a_module_may_do(opa_binary: Path, source: str) -> None:
    assert findings_of(opa_binary, source) == []


HOSTILE = {
    "agreements of others": body("data.data.agreements.transport"),
    "another agency": body('data.agencies["cyber-centre"].deny[_]'),
    "all agencies": body("data.agencies[x].deny[_]"),
    "all agencies as a value": body("x := data.agencies", "x.transport"),
    "computed root": body('key := "data"', "data[key].agreements"),
    "anonymous root": body("data[_].agreements"),
    "data as a value": body("x := data", "x.data.agreements"),
    "walk": body("walk(data, [path, value])", "value == 1"),
    "some in data": body("some name, value in data", "value == name"),
    "every over data": body("every value in data {", "value", "}"),
    "object.get": body('object.get(data, ["data", "agreements"], 0) != 0'),
    "an argument of a call": body("count(data.data.agreements) > 0"),
    "a comprehension": body("{x | x := data.data.agreements[_]} != set()"),
    "a negation": body("not data.data.agreements.transport"),
    "a template string": body('x := $"{data.data.vocabulary}"', 'x != ""'),
    "an argument named data": "package agencies.ems\nf(data) := data.data\n",
    "inside a reference": body("input.item[data.data.topics]"),
    "inside its own reference": body("data.agencies.ems[data.data.agreements.transport]"),
    "import": 'package agencies.ems\nimport data.data.agreements\ndeny contains "x" if agreements.transport\n',
    "import by alias": 'package agencies.ems\nimport data.agencies as input2\ndeny contains "x" if input2.transport\n',
    "import of the root": 'package agencies.ems\nimport data as d\ndeny contains "x" if d.data.agreements\n',
    "import above the library": 'package agencies.ems\nimport data.entente as e\ndeny contains "x" if e.decision\n',
    "import that is called data": 'package agencies.ems\nimport input.data\ndeny contains "x" if data.data\n',
    "a name like the library's": body("data.entente.library"),
    "the entry point": body("data.entente.decision.decisions"),
    "with data": body('input.side == "owner" with data.data.agreements as {}'),
    "with the library": body("data.agencies.ems.helper with data.entente.lib.ranks as {}"),
    "with a built-in": body("data.agencies.ems.helper with count as 3"),
    "data as a with value": body("data.agencies.ems.helper with input as data.data.agreements"),
    "rego.metadata": body("rego.metadata.rule() == {}"),
    "rego.parse_module": body('rego.parse_module("x", "package y") == {}'),
    "a default": "package agencies.ems\ndefault helper := false\nhelper if data.data.topics\n",
    "an else": "package agencies.ems\nhelper := 1 if input.x else := 2 if data.data.topics\n",
    "a head": "package agencies.ems\noblige contains data.data.agreements\n",
    "below its own package": "package agencies.ems.tables\nx := data.data.agreements\n",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_module_may_not_refer_to(opa_binary: Path, source: str) -> None:
    found = findings_of(opa_binary, source)

    assert found
    assert all(finding.line > 1 for finding in found)
    assert all("\n" not in str(finding) for finding in found)


PACKAGES = {
    "the exchange's package in an agency's folder": ("agencies/ems/module.rego", "entente.decision"),
    "a new exchange package in an agency's folder": ("agencies/ems/module.rego", "entente.extra"),
    "another agency's package": ("agencies/ems/module.rego", "agencies.transport"),
    "an agency's package in the exchange's folder": ("entente/ems/ems.rego", "agencies.ems"),
    "an agency's package beside the folders": ("agencies/module.rego", "agencies.ems"),
    "a folder that only begins with the name": ("agencies/ems2/module.rego", "agencies.ems"),
    "all agencies at once": ("agencies/ems/module.rego", "agencies"),
    "the exchange as a whole": ("entente/entente.rego", "entente"),
    "data beside the data files": ("entente/data/data.rego", "data.agreements"),
    "OPA's own authorisation": ("entente/authz/authz.rego", "system.authz"),
    "an agency that is not registered": ("agencies/unknown/module.rego", "agencies.unknown"),
}


@pytest.mark.parametrize(("path", "package"), PACKAGES.values(), ids=PACKAGES.keys())
def test_folder_and_package_name_one_owner(opa_binary: Path, path: str, package: str) -> None:
    found = findings_of(opa_binary, f"\npackage {package}\n\nallow := true\n", path=path)

    assert [(finding.path, finding.line) for finding in found] == [(path, 2)]
    assert "package" in found[0].reason or "registered" in found[0].reason


ANSWERS = {
    "a complete rule": 'deny := {"x"} if input.side == "owner"',
    "a boolean": "deny if input.side",
    "a default": "default redact := set()",
    "a function": "deny(x) := {x}",
    "an object": 'redact["pii"] := {"kind": "keep"}',
    "a name below": "oblige.more contains 1",
}


@pytest.mark.parametrize("rule", ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_are_sets(opa_binary: Path, rule: str) -> None:
    found = findings_of(opa_binary, f"package agencies.ems\n\n{rule}\n")

    assert [finding.line for finding in found] == [3]
    assert "contains" in found[0].reason


MISSPELT = {
    "deny": 'denies contains "x" if input.side == "owner"',
    "redact": 'redacts contains {"marking": "pii", "treatment": {"kind": "remove"}}',
    "oblige": 'Oblige contains "x"',
}


@pytest.mark.parametrize("rule", MISSPELT.values(), ids=MISSPELT.keys())
def test_a_set_that_nobody_asks_for_is_refused(opa_binary: Path, rule: str) -> None:
    """A misspelt denial would deny nothing, and nobody would be told."""
    found = findings_of(opa_binary, f"package agencies.ems\n\n{rule}\n")

    assert [finding.line for finding in found] == [3]
    assert "nobody asks for" in found[0].reason


def test_a_private_set_may_have_any_name(opa_binary: Path) -> None:
    source = 'package agencies.ems\n\n_helpers contains "x"\n\ndeny contains "no" if count(_helpers) > 1\n'

    assert findings_of(opa_binary, source) == []


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("agencies/ems/volunteers_test.rego", "agencies.ems"),
        ("agencies/ems/module.rego", "agencies.ems.module_test"),
        ("entente/tlp/tlp_test.rego", "entente.tlp"),
    ],
)
def test_rules_are_not_left_out_as_tests_nor_tests_loaded_as_rules(
    opa_binary: Path, path: str, package: str
) -> None:
    """A file of tests is not loaded, so a denial in it would deny nothing."""
    found = findings_of(opa_binary, f'\npackage {package}\n\ndeny contains "no"\n', path=path)

    assert [(finding.path, finding.line) for finding in found] == [(path, 2)]
    assert "_test" in found[0].reason


TIMES = {
    "by name": "input.item.time > input.item.topic",
    "by key": 'input.item["time"] == 1',
    "by object.get": 'object.get(input.item, "time", "") == ""',
    "by pattern": '{"time": t} := input.item',
}


@pytest.mark.parametrize("line", TIMES.values(), ids=TIMES.keys())
def test_time_has_to_be_declared(opa_binary: Path, line: str) -> None:
    source = body(line)

    assert [finding.line for finding in findings_of(opa_binary, source)] == [4]
    assert "time_dependent" in findings_of(opa_binary, source)[0].reason
    assert findings_of(opa_binary, source, time_dependent=True) == []


def test_time_by_import_and_in_the_exchange_s_own_modules(opa_binary: Path) -> None:
    imported = 'package agencies.ems\nimport input.item.time as now\ndeny contains "x" if now > "2026"\n'
    own = "package entente.extra\nlate(item) if item.time > 1\n"

    assert [finding.line for finding in findings_of(opa_binary, imported)] == [2]
    assert [finding.line for finding in findings_of(opa_binary, own, path="entente/extra/extra.rego")] == [2]


def test_a_module_that_does_not_parse_is_a_finding(opa_binary: Path) -> None:
    found = findings_of(opa_binary, "package agencies.ems\ndeny contains if {")

    assert [(finding.path, finding.line) for finding in found] == [("agencies/ems/module.rego", 1)]


def test_the_default_rulebook_is_in_order(opa_binary: Path) -> None:
    paths = sorted(RULEBOOK.rglob("*.rego"))
    files = {path.relative_to(RULEBOOK).as_posix(): path.read_bytes() for path in paths}
    agencies = {path.name for path in (RULEBOOK / "data" / "agencies").iterdir()}

    assert len(files) > 10
    assert (
        check_ownership(files, partial(parse_module, opa_binary), agencies=agencies, time_dependent=False)
        == []
    )
