"""`entente rulebook test`: Rego tests, cases and guarantees, with each failure in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from broker.cli.command import shared_options
from broker.cli.rulebook.opened import (
    OpaOption,
    RulebookPath,
    counted,
    examined,
    finding_object,
    write_finding,
)
from broker.cli.settings import Given
from connectors.cli.failures import ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line
from connectors.cli.text import one_line, printable, to_json

if TYPE_CHECKING:
    from broker.core.rulebook.cases.run import Outcome
    from broker.core.rulebook.examine import Examination
    from broker.core.rulebook.findings import Finding
    from broker.core.rulebook.guarantees.run import GuaranteeOutcome
    from broker.model.decision import Decision
    from broker.ports.rulebook_trial import RegoTest


@shared_options
def test(given: Given, path: RulebookPath, opa: OpaOption = None) -> None:
    """Run a rulebook's Rego tests, cases and guarantees, and show each failure in full: expected, got, and why.

    Exits with 0 if nothing failed, with 1 if something did or an error kept it from being run, and with 2 if there is
    nothing to test.
    """
    examination = examined(path, opa)
    failures = [*_tests(examination), *_cases(examination), *_guarantees(examination)]
    told = {(each["file"], each["line"]) for each in failures}
    others = [
        finding
        for finding in examination.findings
        if finding.severity == "error" and (finding.file, finding.line) not in told
    ]
    if choose_format(given.output) is OutputFormat.TABLE:
        _show(failures, others)
        write_line(_summary(examination, len(failures)))
    else:
        result = {
            "revision": examination.revision or None,
            "passed": not failures and not others,
            "tests": len(examination.tests),
            "cases": len(examination.cases),
            "guarantees": len(examination.guarantees),
            "failures": failures,
            "errors": [finding_object(finding) for finding in others],
        }
        show_one(choose_format(given.output), result)
    if failures or others:
        raise typer.Exit(ExitCode.FAILED)


def _tests(examination: Examination) -> Iterator[dict[str, object]]:
    for test_ in examination.tests:
        if test_.verdict in {"failed", "error"}:
            yield _test(test_)


def _test(failed: RegoTest) -> dict[str, object]:
    return {
        "kind": "test",
        "file": failed.file,
        "line": failed.line,
        "name": failed.name,
        "verdict": str(failed.verdict),
        "detail": failed.detail,
    }


def _cases(examination: Examination) -> Iterator[dict[str, object]]:
    for outcome in examination.cases:
        if outcome.differences:
            yield _case(outcome)


def _case(outcome: Outcome) -> dict[str, object]:
    case = outcome.case
    return {
        "kind": "case",
        "file": case.file,
        "line": case.line,
        "name": case.title,
        "differences": [
            {"key": each.key, "expected": each.expected, "got": each.got} for each in outcome.differences
        ],
        "input": dict(case.item),
        "output": _decision(outcome.decision),
    }


def _guarantees(examination: Examination) -> Iterator[dict[str, object]]:
    for outcome in examination.guarantees:
        if outcome.counterexample is not None:
            yield _guarantee(outcome)


def _guarantee(outcome: GuaranteeOutcome) -> dict[str, object]:
    found = outcome.counterexample
    return {
        "kind": "guarantee",
        "file": outcome.guarantee.file,
        "line": outcome.guarantee.line,
        "name": outcome.guarantee.name,
        "why": outcome.guarantee.why,
        "counterexample": str(found),
        "output": None if found is None else _decision(found.decision),
    }


def _decision(decision: Decision | None) -> dict[str, object] | None:
    from broker.core.rulebook.cases.run import show_treatment

    if decision is None:
        return None
    return {
        "effect": str(decision.effect),
        "treatments": {
            name: show_treatment(decision.treatments[name]) for name in sorted(decision.treatments)
        },
        "obligations": list(decision.obligations),
        "reasons": list(decision.reasons),
    }


def _show(failures: list[dict[str, object]], others: list[Finding]) -> None:
    """Each failure with what belongs to it, indented below."""
    for failure in failures:
        write_line(one_line(f"{failure['file']}:{failure['line']}: {failure['kind']} {failure['name']}"))
        for line in _details(failure):
            write_line(f"    {printable(line.expandtabs(4))}")
    for finding in others:
        write_finding(finding)


def _details(failure: dict[str, object]) -> Iterator[str]:
    if failure["kind"] == "test":
        yield from str(failure["detail"]).splitlines()
        return
    if failure["kind"] == "guarantee":
        yield f"guaranteed  {failure['why']}"
        yield f"but         {failure['counterexample']}"
    differences = failure.get("differences")
    for each in differences if isinstance(differences, list) else ():
        yield f"{each['key']}: expected {each['expected']}, got {each['got']}"
    output = failure["output"]
    if isinstance(output, dict):
        yield f"decided     {to_json(output)}"
    if "input" in failure:
        yield f"asked       {to_json(failure['input'])}"


def _summary(examination: Examination, failed: int) -> str:
    tried = (
        f"{counted(len(examination.tests), 'Rego test')}, {counted(len(examination.cases), 'case')}, "
        f"{counted(len(examination.guarantees), 'guarantee')}"
    )
    if not examination.tests and examination.errors:
        return f"nothing was run: {counted(examination.errors, 'error')}"
    return f"{tried}: {counted(failed, 'failure')}" if failed else f"{tried}: all as expected"
