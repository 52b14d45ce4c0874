"""The examination of a rulebook: all that is checked before anybody may approve it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from broker.core.rulebook.budget import Timed, measure, over_budget, slowest
from broker.core.rulebook.cases import Cases, read_cases
from broker.core.rulebook.cases.run import Outcome, run_cases
from broker.core.rulebook.check import check_modules, read_registry
from broker.core.rulebook.findings import Finding, Severity, located
from broker.core.rulebook.guarantees import Guarantee, read_guarantees
from broker.core.rulebook.guarantees.run import GuaranteeOutcome, run_guarantees
from broker.core.rulebook.lockout import lockouts
from broker.core.rulebook.negation import negation_warnings
from broker.core.rulebook.read_before import ReadBefore
from broker.core.rulebook.samples import Question, questions_of_agreements
from broker.core.rulebook.syntax import Node, remembering
from broker.core.rulebook.verdicts import case_findings, guarantee_findings, test_findings
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_compiler import RulebookCompiler
from broker.ports.rulebook_trial import RegoTest, RulebookTrial, TrialEngines, TrialFailed

_Value = TypeVar("_Value")
_SOME_TIME = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found about one revision. What was run is empty if there were errors before."""

    revision: str
    findings: tuple[Finding, ...]
    tests: tuple[RegoTest, ...] = ()
    cases: tuple[Outcome, ...] = ()
    guarantees: tuple[GuaranteeOutcome, ...] = ()
    slowest: Timed | None = None

    @property
    def errors(self) -> int:
        """How many findings keep it out."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Read:
    """A revision that passed everything that is checked without running it."""

    registry: Registry
    cases: Cases
    guarantees: tuple[Guarantee, ...]
    modules: Mapping[str, Node]


async def examine(
    compiler: RulebookCompiler,
    engines: TrialEngines,
    revision: Revision,
    *,
    present: Registry | None = None,
    before: ReadBefore | None = None,
) -> Examination:
    """Check a revision, and, if that finds no error, run its tests, cases and guarantees, and time its decisions.

    Rules that do not pass the checks are never run. present: what the revision in force registers, whose administrators
    have to be able to change the rulebook again; without one, the revision's own have to be. before: what reading that left.
    """
    found: list[Finding] = []
    read = await asyncio.to_thread(_read, compiler, revision, before, found)
    if read is None:
        return Examination(revision.id, _in_order(found, revision))
    try:
        trial = await engines.start(revision)
    except TrialFailed as failed:
        found.append(Finding("rulebook", None, f"does not run: {failed}", "correct the rules"))
        return Examination(revision.id, _in_order(found, revision))
    try:
        return await _run(trial, revision, read, found, present)
    finally:
        await trial.close()


def _read(
    compiler: RulebookCompiler, revision: Revision, before: ReadBefore | None, found: list[Finding]
) -> _Read | None:
    """What the revision holds; None if it may not run. Adds to `found`."""
    try:
        registry = read_registry(revision, before)
    except RulebookRefused as refused:
        found += map(Finding.read, refused.findings)
        return None
    parse = remembering(compiler.parse)
    refusals = list(check_modules(compiler, parse, revision, registry))
    cases = _or_refused(read_cases, revision, registry, refusals)
    guarantees = _or_refused(read_guarantees, revision, registry, refusals)
    refusals = refusals or list(compiler.compile_tests(revision))
    found += map(Finding.read, refusals)
    if cases is None or guarantees is None or refusals:
        return None
    if guarantees and revision.time_dependent and not cases.times:
        what = "its rules depend on the time, and no case says at which guarantees are to be tried"
        found.append(Finding("cases/", None, what, "add a case with `at`"))
        return None
    modules = {path: parse(path, source) for path, source in revision.files.items() if path.endswith(".rego")}
    found += negation_warnings(modules, revision.files)
    return _Read(registry, cases, guarantees, modules)


def _or_refused(
    read: Callable[[Revision, Registry], _Value], revision: Revision, registry: Registry, refusals: list[str]
) -> _Value | None:
    try:
        return read(revision, registry)
    except RulebookRefused as refused:
        refusals += refused.findings
        return None


async def _run(
    trial: RulebookTrial, revision: Revision, read: _Read, found: list[Finding], present: Registry | None
) -> Examination:
    outcomes = await run_cases(trial, read.cases.cases)
    times = [_timed(outcome) for outcome in outcomes]
    if not any(outcome.silent for outcome in outcomes):
        times += await measure(trial, questions_of_agreements(read.registry, read.cases))
    slow = await over_budget(trial, times, read.modules)
    found += slow
    # Whatever a slow rule would hold up is not asked: the finding that names it comes first.
    held = [] if slow else await run_guarantees(trial, read.guarantees, read.registry, read.cases)
    if not slow:
        found += await lockouts(trial, read.registry, present, _time(revision, read.cases))
    longest = await slowest(trial, times)
    tests: Sequence[RegoTest] = ()
    try:
        tests = await trial.run_tests()
    except TrialFailed as failed:
        found.append(Finding("rulebook", None, str(failed), "correct the tests"))
    found += case_findings(outcomes, read.cases)
    found += guarantee_findings(held, [] if held else read.guarantees)
    found += test_findings(tests)
    return Examination(
        revision.id,
        _in_order(found, revision),
        tuple(tests),
        tuple(outcomes),
        tuple(held),
        longest,
    )


def _time(revision: Revision, cases: Cases) -> str | None:
    """A time at which to ask, if the revision depends on it."""
    return (*cases.times, _SOME_TIME)[0] if revision.time_dependent else None


def _timed(outcome: Outcome) -> Timed:
    case = outcome.case
    question = Question(case.file, case.line, case.title, dict(case.item))
    return Timed(question, None if outcome.silent else outcome.duration_ns)


def _in_order(findings: Iterable[Finding], revision: Revision) -> tuple[Finding, ...]:
    """Errors first; each once, with its line where that can be told."""

    def order(finding: Finding) -> tuple[bool, str, int]:
        return finding.severity is Severity.WARNING, finding.file, finding.line or 0

    unique: Iterator[Finding] = iter(dict.fromkeys(located(findings, revision.files)))
    return tuple(sorted(unique, key=order))
