"""The examination of a rulebook with the real OPA: what passes, what is found and where, and what is never run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.adapters.opa import OpaCompiler, OpaTrials, TrialLimits
from broker.core.rulebook.examine import Examination, examine
from broker.core.rulebook.findings import Severity
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_trial import RulebookTrial, TrialFailed, Verdict
from tests.fakes.rulebook import ROOT
from tests.fakes.trial import NeverStarted

pytestmark = pytest.mark.opa

POLICY = read_rulebook(ROOT / "policy").files
# Without most of its tests and cases, since each examination runs them all.
BASE = {path: content for path, content in POLICY.items() if not path.endswith("_test.rego")}
FILES = {
    **{path: content for path, content in BASE.items() if not path.startswith("cases/")},
    **{path: POLICY[path] for path in ("cases/principals.yaml", "cases/records.yaml")},
    **{
        f"keys/{path.split('/')[2]}.jwks.json": b'{"keys": []}'
        for path in BASE
        if path.startswith("data/agencies/")
    },
    "agencies/ems/module_test.rego": POLICY["agencies/ems/module_test.rego"],
    "cases/some.yaml": (
        b"- {who: paramedic, record: crash, effect: release}\n- {who: statistician, record: indicator, effect: withhold}\n"
    ),
    "entente/guarantees.yaml": b"{}",
    "agencies/ems/guarantees.yaml": b"{}",
    "agencies/highway-patrol/guarantees.yaml": (
        b"charges-stay-here: {why: A charge is no conviction., side: owner, never_keep: [criminal],\n"
        b"  subjects: {agencies: [transport]}, records: {labels: {dataclassification: [amber]}}}\n"
    ),
}
SHORT_DECISIONS = TrialLimits(decision_s=0.5, profile_s=1.0)
SHORT_TESTS = TrialLimits(test_s=2.0)


async def examined(opa: Path, limits: TrialLimits | None = None, **changed: bytes) -> Examination:
    engines = OpaTrials(opa, limits or TrialLimits())
    return await examine(OpaCompiler(opa), engines, revision_of({**FILES, **changed}))


def errors(examination: Examination) -> list[str]:
    return [str(finding) for finding in examination.findings if finding.severity is Severity.ERROR]


def warnings(examination: Examination) -> list[str]:
    return [str(finding) for finding in examination.findings if finding.severity is Severity.WARNING]


async def test_owners_end_all_that_they_granted_without_a_change_of_anybody_elses_files(
    opa_binary: Path,
) -> None:
    """Neither tests of the rules nor the exchange's cases may rest on an agreement: else revoking one takes two."""
    keys = {path: FILES[path] for path in FILES if path.startswith("keys/")}
    granted = re.compile(r"data/agreements/.*|cases/[^/]+/.*")
    left = {path: content for path, content in POLICY.items() if not granted.fullmatch(path)}
    assert len(POLICY) - len(left) >= 4
    revision = revision_of({**keys, **left})
    examination = await examine(OpaCompiler(opa_binary), OpaTrials(opa_binary), revision)
    assert errors(examination) == []
    assert len(examination.tests) > 100 and len(examination.cases) > 100


async def test_a_good_rulebook_has_no_findings(opa_binary: Path) -> None:
    examination = await examined(opa_binary)

    assert examination.findings == ()
    assert len(examination.tests) > 3 and {test.verdict for test in examination.tests} == {Verdict.PASSED}
    assert [outcome.differences for outcome in examination.cases] == [(), ()]
    (guarantee,) = examination.guarantees
    assert guarantee.holds and guarantee.complete and guarantee.checked > 20
    assert examination.slowest is not None and examination.slowest.duration_ns


async def test_a_change_that_leaks_is_found_by_case_and_guarantee(opa_binary: Path) -> None:
    agreements = FILES["data/agreements/highway-patrol/data.yaml"]
    leaking = agreements.replace(b"criminal: {kind: mask}", b"criminal: {kind: keep}")
    assert leaking != agreements
    case = b"- {who: statistician, record: crash, effect: release, treatments: {criminal: mask}}\n"

    found = errors(
        await examined(
            opa_binary,
            **{"data/agreements/highway-patrol/data.yaml": leaking, "cases/statistics.yaml": b"\n" + case},
        )
    )

    assert len(found) == 2
    assert found[0].startswith(
        "agencies/highway-patrol/guarantees.yaml:1: charges-stay-here is broken: transport ("
    )
    assert (
        "for road-safety-statistics would receive gov.niem.crash-driver.v1 of highway-patrol on crash-reports"
        in found[0]
    )
    assert found[0].endswith(
        " with criminal treated as keep; change the rules, or have highway-patrol change the guarantee"
    )
    assert found[1].startswith(
        "cases/statistics.yaml:2: statistician deliver crash: treatments.criminal is keep, not mask"
    )


async def test_a_change_after_which_nobody_could_change_anything_is_an_error(opa_binary: Path) -> None:
    """Two who could do so by the changed rules are not enough, if one of them is no administrator yet."""
    replaced = {"data/administrators/exchange/data.yaml": b"- admin-1\n- admin-3\n"}
    present = parse_registry(revision_of(FILES))
    changed = revision_of({**FILES, **replaced})

    examination = await examine(OpaCompiler(opa_binary), OpaTrials(opa_binary), changed, present=present)

    (found,) = errors(examination)
    assert found.startswith(
        "data/administrators/exchange/data.yaml:1: nobody could change what is exchange's: "
    )
    assert errors(await examined(opa_binary, **replaced)) == []


TESTS = b"""package agencies.ems.more_test

import data.agencies.ems

test_good if count(ems.deny) == 0 with input as {}

test_wrong if {
	found := ems.deny with input as {"side": "consumer"}
	found == {"something"}
}

test_several[name] if {
	some name in ["a", "b"]
	name == "a"
}

test_endless if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == 0
}

todo_test_later if false
"""


async def test_rego_tests_are_run_and_failures_show_their_values(opa_binary: Path) -> None:
    examination = await examined(opa_binary, SHORT_TESTS, **{"agencies/ems/more_test.rego": TESTS})

    tests = {test.name.rpartition(".")[2]: test for test in examination.tests if "more_test" in test.name}
    assert {name: test.verdict for name, test in tests.items()} == {
        "test_good": Verdict.PASSED,
        "test_wrong": Verdict.FAILED,
        "test_several": Verdict.FAILED,
        "test_endless": Verdict.ERROR,
        "todo_test_later": Verdict.SKIPPED,
    }
    assert tests["test_wrong"].line == 7
    assert 'found == {"something"}' in tests["test_wrong"].detail and "set()" in tests["test_wrong"].detail
    assert "agencies/ems/more_test.rego:9" in tests["test_wrong"].detail
    found = errors(examination)
    assert [line.split(": ")[0] for line in found] == [
        f"agencies/ems/more_test.rego:{row}" for row in (7, 12, 17)
    ]
    where = re.search(r"ends with: .* at agencies/ems/more_test\.rego:(\d+);", found[2])
    assert where is not None and int(where[1]) in {18, 19, 20}, "where it was when its time was over"
    assert len(warnings(examination)) == 1 and "todo_test_later is skipped" in warnings(examination)[0]


SLOW = b"""package agencies.ems

import data.entente.lib

deny contains "too much" if {
	input.side == "consumer"
	_searched > 0
}

_searched := count([number | some number in numbers.range(1, 40000); number % 7 == 0; number < 0])

deny contains "records under CJIS are not taken" if {
	input.side == "consumer"
	lib.under_regulation(input.item, "CJIS")
}
"""


async def test_a_rule_that_takes_too_long_is_named(opa_binary: Path) -> None:
    found = errors(
        await examined(
            opa_binary, **{"agencies/ems/module.rego": SLOW, "agencies/ems/module_test.rego": TEST}
        )
    )

    assert len(found) == 2
    assert found[0].startswith(
        "agencies/ems/module.rego:10: data.agencies.ems._searched is too slow: deciding '"
    )
    assert "ms, and a decision may take 5 ms" in found[0]
    assert "charges-stay-here was not tried, since decisions take too long" in found[1]


TEST = b"package agencies.ems.module_test\n\nimport data.agencies.ems\n\ntest_x if ems.deny == set() with input as {}\n"
ENDLESS = b"""package agencies.ems

deny contains "no" if {
	input.side == "consumer"
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == 0
}
"""


async def test_rules_that_do_not_end_are_named_and_hold_nothing_up(opa_binary: Path) -> None:
    changed = {"agencies/ems/module.rego": ENDLESS, "agencies/ems/module_test.rego": TEST}
    examination = await examined(opa_binary, SHORT_DECISIONS, **changed)

    found = errors(examination)
    assert any(
        line.startswith("agencies/ems/module.rego:")
        and "data.agencies.ems.deny is too slow: deciding 'paramedic deliver crash' (cases/some.yaml:1) gave no answer"
        in line
        for line in found
    ), found
    assert any(line.startswith("cases/some.yaml:2: 1 cases from here on were not asked") for line in found)
    assert any(
        line.startswith("agencies/highway-patrol/guarantees.yaml:1: charges-stay-here was not tried")
        for line in found
    )
    assert len(examination.tests) == 1, "tests have their own time"


def module(name: str, *lines: str) -> dict[str, bytes]:
    return {f"agencies/ems/{name}.rego": "\n".join(["package agencies.ems", "", *lines, ""]).encode()}


def rego_test(name: str, *lines: str) -> dict[str, bytes]:
    text = "\n".join([f"package agencies.ems.{name}_test", "", *lines, ""])
    return {f"agencies/ems/{name}_test.rego": text.encode()}


MISSPELT = FILES["data/agencies/ems/data.yaml"].replace(
    b"purposes: [emergency-response]", b"purposes: [emergency]"
)

# What is found together, by the step that finds it: (changed files, beginnings of the findings)
REFUSED: Mapping[str, tuple[dict[str, bytes], list[str]]] = {
    "texts": (
        {
            "agencies/ems/a.rego": b'package agencies.ems\n\nx := "\xff"\n',
            "agencies/ems/b.rego": "package agencies.ems\n\nx := 1 # \u202e\n".encode(),
        },
        [
            "agencies/ems/a.rego:3: is not UTF-8; save it as UTF-8",
            "agencies/ems/b.rego:3: holds the invisible character U+202E; remove it",
        ],
    ),
    "data": (
        {
            "data/agencies/data.yaml": b"ems: {}",
            "data/data.yaml": b"agencies: {}",
            "data/agencies/transport/data.yaml": b"name: x\nname: y\n",
        },
        [
            "data/agencies/data.yaml:1: is no place for data",
            "data/agencies/transport/data.yaml:2: key 'name' stands twice",
            "data/data.yaml:1: is no place for data",
        ],
    ),
    "words": (
        {"data/agencies/ems/data.yaml": MISSPELT},
        ["data/agencies/ems/data.yaml:7: purposes: 'emergency' is no purpose of the vocabulary"],
    ),
    "complexity": (
        {
            **module("a", f"x := {'[' * 9000}{']' * 9000}"),
            **module("b", f"x := {'[y | y := ' * 30}1{']' * 30}"),
            **module("c", "#" * 1_000_000),
            **module("d", f"x := {'+'.join('1' * 400)}"),
            **module("e", f"x := {'+'.join('1' * 400)}"),
        },
        [
            "agencies/ems/a.rego:3: has more than 50 brackets",
            "agencies/ems/b.rego:3: has more than 5 comprehensions",
            "agencies/ems/c.rego: is larger than 262144 bytes",
            "agencies/ems/d.rego:1: is too deeply nested to be checked",
        ],
    ),
    "modules, cases and guarantees": (
        {
            **module("a", 'x := http.send({"method": "get", "url": "http://x"})'),
            **module("b", "x := opa.runtime()"),
            **module("c", "x := time.now_ns()"),
            **module("d", 'x := rand.intn("x", 3)'),
            **module("e", "x := data[input.agency]"),
            "agencies/ems/f.rego": b"\n\npackage agencies.transport\n",
            "cases/more.yaml": b"\n- {who: oficer, record: crash, effect: release}",
            "agencies/ems/guarantees.yaml": b"\nx: {why: because, side: owner}",
        },
        [
            "agencies/ems/a.rego:3: undefined function http.send",
            "agencies/ems/b.rego:3: undefined function opa.runtime",
            "agencies/ems/c.rego:3: undefined function time.now_ns",
            "agencies/ems/d.rego:3: undefined function rand.intn",
            "agencies/ems/e.rego:3: refers to data.<computed>",
            "agencies/ems/f.rego:3: declares package agencies.transport, which belongs under agencies/transport/",
            "agencies/ems/guarantees.yaml:2: x: needs 'never' or 'never_keep'",
            "cases/more.yaml:2: who: 'oficer' is none of the principals",
        ],
    ),
    "what is no Rego": (
        module("a", "package := 1"),
        ["agencies/ems/a.rego:1: is not valid Rego", "agencies/ems/a.rego:3: "],
    ),
    "tests": (
        {
            **rego_test("a", 'test_x if http.send({"method": "get", "url": "http://x"}).status_code == 200'),
            **rego_test("b", "test_x if opa.runtime().env"),
        },
        [
            "agencies/ems/a_test.rego:3: undefined function http.send",
            "agencies/ems/b_test.rego:3: undefined function opa.runtime",
        ],
    ),
    "what a test refers to": (
        rego_test("a", "test_x if data.data.agreements.transport"),
        ["agencies/ems/a_test.rego:3: refers to data.data.agreements"],
    ),
    "guarantees without a time": (
        {"manifest.yaml": b"time_dependent: true", "cases/some.yaml": b"[]"},
        ["cases/: its rules depend on the time, and no case says at which"],
    ),
}


@pytest.mark.parametrize(("changed", "said"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_does_not_pass_is_named_with_its_line_and_never_run(
    opa_binary: Path, changed: dict[str, bytes], said: list[str]
) -> None:
    examination = await examine(OpaCompiler(opa_binary), NeverStarted(), revision_of({**FILES, **changed}))

    found = errors(examination)
    assert [line[: len(begin)] for line, begin in zip(found, said, strict=False)] == said, found
    assert len(found) == len(said)
    assert all("\n" not in line and "; " in line for line in found)


async def test_warnings_leave_a_rulebook_good(opa_binary: Path) -> None:
    examination = await examined(
        opa_binary,
        **module("extra", '_odd contains "no" if not _known', "", '_known if input.item.topic == "x"'),
        **{"cases/some.yaml": b"[]", "agencies/ems/guarantees.yaml": NOBODY},
    )

    assert examination.errors == 0
    found = warnings(examination)
    assert [line.partition("; ")[0] for line in found] == [
        "agencies/ems/extra.rego:3: `not` holds as well where _known is undefined, which no default rules out",
        "agencies/ems/guarantees.yaml:1: x is about nobody: no subject and record that could be fit it",
        "cases/: there are none",
    ]


NOBODY = b"x: {why: because, side: consumer, subjects: {roles: [officer]}, never: [release]}"


class Broken:
    """An engine that does not come up."""

    async def start(self, revision: Revision) -> RulebookTrial:
        raise TrialFailed("OPA ended with 1")


async def test_an_engine_that_does_not_come_up_is_a_finding(opa_binary: Path) -> None:
    examination = await examine(OpaCompiler(opa_binary), Broken(), revision_of(FILES))
    assert errors(examination) == ["rulebook: does not run: OPA ended with 1; correct the rules"]


async def test_outputs_that_are_not_well_formed_are_no_decisions(opa_binary: Path) -> None:
    source = FILES["entente/decision/decision.rego"]
    odd = source.replace(b'{"id": _id(item)}', b'{"id": _id(item), "more": 1}')
    assert odd != source
    found = errors(await examined(opa_binary, **{"entente/decision/decision.rego": odd}))

    assert any(
        line.startswith("cases/some.yaml:1: ") and "no well-formed answer" in line for line in found
    ), found
    assert any("charges-stay-here could not be tried" in line for line in found)
