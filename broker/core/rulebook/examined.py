"""From what an examination found to what is kept with a proposal, and shown of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import orjson

from broker.core.rulebook.cases.run import Outcome
from broker.core.rulebook.examine import Examination
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.guarantees.run import Counterexample, GuaranteeOutcome
from broker.core.rulebook.proposals import Check, SaidOf, check_body
from broker.model.rulebook import Revision

FINDINGS_MOST = 200
_CHECK_BYTES = 128 << 10
_TEXT_CHARACTERS = 1_000
_LOCKED_OUT = re.compile(r"(?P<whose>nobody could change what is \S+): .*", re.DOTALL)
_SLOW = re.compile(r"(?P<rule>\S+ is too slow): .*|deciding '.*", re.DOTALL)


class Examiner(Protocol):
    """Examines proposed revisions, in a process of its own: their rules are not trusted, and may take minutes."""

    async def examine(self, present: Revision, proposed: Revision, agency: str | None) -> Check:
        """What is found about the proposed revision; agency: of which alone it changes the part, if it does.

        Never raises for what the revision holds: that it could not be examined is a finding.
        """


def check_of(examination: Examination) -> Check:
    """The check as it is kept: bounded, with what owners are told where a finding says what others decided."""
    told = dict([*_of_guarantees(examination.guarantees), *_of_cases(examination.cases)])
    kept: list[SaidOf] = []
    size_bytes = 0
    for finding in examination.findings:
        said = SaidOf(_cut(finding), _told(finding, told))
        size_bytes += len(orjson.dumps(check_body(Check(True, (said,)))))
        if len(kept) == FINDINGS_MOST or size_bytes > _CHECK_BYTES:
            return Check(not examination.errors, tuple(kept), cut=True)
        kept.append(said)
    return Check(not examination.errors, tuple(kept))


def refused(findings: Iterable[Finding]) -> Check:
    """A check that ended before anything was run."""
    return check_of(Examination("", tuple(findings)))


_Place = tuple[str, int | None]


def _told(finding: Finding, told: dict[_Place, str]) -> str | None:
    """Whatever is said at the place of a case or guarantee is said of its outcome; others name persons or questions."""
    place = (finding.file, finding.line)
    if place in told:
        return told[place]
    if locked := _LOCKED_OUT.fullmatch(finding.what):
        return locked["whose"]
    slow = _SLOW.fullmatch(finding.what)
    return None if slow is None else slow["rule"] or "a decision takes too long"


def _of_guarantees(outcomes: Iterable[GuaranteeOutcome]) -> Iterator[tuple[_Place, str]]:
    """What their agency is told of them, where that is less."""
    for outcome in outcomes:
        found, guarantee = outcome.counterexample, outcome.guarantee
        place = (guarantee.file, guarantee.line)
        if found is not None:
            yield place, f"{guarantee.name} is broken{_example(found, guarantee.agency)}"
        elif outcome.checked and not outcome.complete:
            # How many there are follows from how many topics and types there are, hidden ones too.
            yield place, f"{guarantee.name} was tried on some combinations, and there are more"


def _example(found: Counterexample, agency: str | None) -> str:
    """By which record another's agreement breaks it is between that owner and its consumer; others' roles are their own."""
    if found.record.owner != agency:
        return ""
    who, _, rest = str(found).partition(") for ")
    return f": {who.partition(' (')[0]} for {rest}"


def _of_cases(outcomes: Iterable[Outcome]) -> Iterator[tuple[_Place, str]]:
    for outcome in outcomes:
        case = outcome.case
        record = case.item.get("record")
        is_own = isinstance(record, dict) and record.get("agency") == case.agency
        if outcome.differences and not is_own:
            yield (case.file, case.line), f"{case.title} comes out otherwise"


def _cut(finding: Finding) -> Finding:
    """Texts that repeat what a file says may be long."""
    return replace(
        finding,
        file=finding.file[:_TEXT_CHARACTERS] or "rulebook",
        what=finding.what[:_TEXT_CHARACTERS] or "is wrong",
        remedy=finding.remedy[:_TEXT_CHARACTERS] or "correct it",
    )
