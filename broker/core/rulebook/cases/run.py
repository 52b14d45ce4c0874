"""Asks a revision about its cases, and says where it answers otherwise than they expect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.core.rulebook.cases.model import Case, Expectation
from broker.errors import NoDecision
from broker.model.decision import Decision, Treatment, TreatmentKind
from broker.ports.policy_engine import Item
from broker.ports.rulebook_trial import Evaluation, RulebookTrial


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a case pins down and that came out otherwise, both as people write them."""

    key: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case.

    decision: None without a well-formed one; `silent` if there was none in time. duration_ns: what deciding it took.
    """

    case: Case
    decision: Decision | None
    duration_ns: int = 0
    silent: bool = False

    @property
    def differences(self) -> tuple[Difference, ...]:
        """None is good."""
        if self.decision is None:
            got = "no answer in time" if self.silent else "no well-formed answer"
            return (Difference("effect", self.case.expected.effect, got),)
        return tuple(compare(self.case.expected, self.decision))


async def evaluate(trial: RulebookTrial, item: Item) -> Evaluation | None:
    """The evaluation of one item; None if there was none in time, twice: a machine may stand still for a moment."""
    for _ in range(2):
        with contextlib.suppress(NoDecision):
            return await trial.evaluate(item)
    return None


async def run_cases(trial: RulebookTrial, cases: Sequence[Case]) -> list[Outcome]:
    """Each case asked alone, so that its time is its own, up to one without an answer: the next would take as long."""
    outcomes: list[Outcome] = []
    for case in cases:
        evaluation = await evaluate(trial, case.item)
        if evaluation is None:
            outcomes.append(Outcome(case, None, silent=True))
            break
        outcomes.append(Outcome(case, evaluation.decision, evaluation.duration_ns))
    return outcomes


def compare(expected: Expectation, decision: Decision) -> Iterator[Difference]:
    """What a decision says otherwise than it was expected to."""
    if decision.effect is not expected.effect:
        yield Difference("effect", expected.effect, decision.effect)
    if expected.treatments is not None:
        for marking in sorted({*expected.treatments, *decision.treatments}):
            one, other = expected.treatments.get(marking), decision.treatments.get(marking)
            if one != other:
                yield Difference(f"treatments.{marking}", show_treatment(one), show_treatment(other))
    if expected.obligations is not None and sorted(expected.obligations) != sorted(decision.obligations):
        yield Difference("obligations", _words(sorted(expected.obligations)), _words(decision.obligations))
    if missing := [reason for reason in expected.reasons if reason not in decision.reasons]:
        yield Difference("reasons", _words(missing), _words(decision.reasons))
    for key, time, got in (
        ("not_before", expected.not_before, decision.not_before),
        ("valid_until", expected.valid_until, decision.valid_until),
    ):
        if time is not None and (got is None or datetime.fromisoformat(time) != got):
            yield Difference(key, time, "none" if got is None else got.astimezone(UTC).isoformat())


def show_treatment(treatment: Treatment | None) -> str:
    """As in a rulebook, on one line."""
    if treatment is None:
        return "not mentioned"
    if treatment.kind is TreatmentKind.MASK and (treatment.keep_first or treatment.keep_last):
        return f"mask (first {treatment.keep_first}, last {treatment.keep_last} kept)"
    return treatment.kind


def _words(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
