"""Findings about what a revision did when it was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.core.rulebook.cases.model import Cases
from broker.core.rulebook.cases.run import Outcome
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.guarantees.model import Guarantee
from broker.core.rulebook.guarantees.run import GuaranteeOutcome
from broker.ports.rulebook_trial import RegoTest, Verdict


def case_findings(outcomes: Sequence[Outcome], cases: Cases) -> Iterator[Finding]:
    """Cases that came out otherwise, and those that were not asked."""
    for outcome in outcomes:
        if differences := outcome.differences:
            said = ", ".join(f"{each.key} is {each.got}, not {each.expected}" for each in differences)
            case = outcome.case
            yield Finding(case.file, case.line, f"{case.title}: {said}", "correct the rules, or the case")
    left = cases.cases[len(outcomes) :]
    if left:
        what = f"{len(left)} cases from here on were not asked, since others had no answer in time"
        yield Finding(left[0].file, left[0].line, what, "correct what is slow first")
    if not cases.cases:
        remedy = "say who receives what, in cases/*.yaml"
        yield Finding("cases/", None, "there are none", remedy, Severity.WARNING)


def guarantee_findings(
    outcomes: Sequence[GuaranteeOutcome], untried: Sequence[Guarantee]
) -> Iterator[Finding]:
    """Guarantees that are broken, that could not be held against anything, or against not all."""
    for outcome in outcomes:
        yield from _guarantee_findings(outcome)
    for guarantee in untried:
        what = f"{guarantee.name} was not tried, since decisions take too long"
        yield Finding(guarantee.file, guarantee.line, what, "correct what is slow first")


def _guarantee_findings(outcome: GuaranteeOutcome) -> Iterator[Finding]:
    guarantee = outcome.guarantee
    file, line, name = guarantee.file, guarantee.line, guarantee.name
    whose = guarantee.agency or "the exchange"
    if outcome.counterexample is not None:
        remedy = f"change the rules, or have {whose} change the guarantee"
        yield Finding(file, line, f"{name} is broken: {outcome.counterexample}", remedy)
    elif outcome.unanswered:
        what = f"{name} could not be tried: a decision was not well-formed, or not given in time"
        yield Finding(file, line, what, "correct the rules")
    elif not outcome.checked:
        what = f"{name} is about nobody: no subject and record that could be fit it"
        yield Finding(file, line, what, "correct its patterns, or remove it", Severity.WARNING)
    elif not outcome.complete:
        what = f"{name} was tried on {outcome.checked} combinations, and there are more"
        yield Finding(file, line, what, "narrow its patterns, to have all of them tried", Severity.WARNING)


def test_findings(tests: Sequence[RegoTest]) -> Iterator[Finding]:
    """Rego tests that fail, and those that are not run."""
    for test in tests:
        if test.verdict is Verdict.FAILED:
            yield Finding(test.file, test.line, f"{test.name} fails", "correct the rules, or the test")
        elif test.verdict is Verdict.ERROR:
            yield Finding(test.file, test.line, f"{test.name} ends with: {test.detail}", "correct it")
        elif test.verdict is Verdict.SKIPPED:
            remedy = "finish it, and begin its name with test_"
            yield Finding(test.file, test.line, f"{test.name} is skipped", remedy, Severity.WARNING)
