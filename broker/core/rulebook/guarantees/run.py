"""Holds guarantees against what a revision decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.core.questions import deliver_question
from broker.core.rulebook.cases.model import Cases, RecordSample
from broker.core.rulebook.guarantees.matrix import Matrix, Reach
from broker.core.rulebook.guarantees.model import Breach, Guarantee
from broker.errors import NoDecision
from broker.model.decision import Decision
from broker.model.principal import SubjectClass
from broker.model.registry import Registry
from broker.ports.rulebook_trial import RulebookTrial

MATRIX_LIMIT = 10_000
"""The most combinations for all guarantees of a rulebook together, at a fifth to half of a millisecond each."""

_BATCH = 200
_Asked = tuple[SubjectClass, RecordSample, str | None]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A combination by which a guarantee is broken."""

    subject: SubjectClass
    record: RecordSample
    time: str | None
    decision: Decision
    breach: Breach

    def __str__(self) -> str:
        clearance = "".join(f", {name} {value}" for name, value in self.subject.attributes)
        who = f"{self.subject.agency} ({', '.join(self.subject.roles) or 'no role'}{clearance})"
        labels = {name: value for name, value in self.record.labels.as_input().items() if value}
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in labels.items())
        at = f" at {self.time}" if self.time is not None else ""
        return (
            f"{who} for {self.subject.purpose} would {self.breach.verb} {self.record.type} of "
            f"{self.record.owner} on {self.record.topic} ({shown}){at}{self.breach.how}"
        )


@dataclass(frozen=True, slots=True)
class GuaranteeOutcome:
    """What became of one guarantee.

    checked: combinations that were decided; complete: they would have been all within reach. unanswered: there was no
    well-formed decision on one, so nothing is known.
    """

    guarantee: Guarantee
    checked: int
    complete: bool
    counterexample: Counterexample | None = None
    unanswered: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing was found that breaks it."""
        return self.counterexample is None and not self.unanswered


async def run_guarantees(
    trial: RulebookTrial, guarantees: Sequence[Guarantee], registry: Registry, cases: Cases
) -> list[GuaranteeOutcome]:
    """Each guarantee against its combinations, up to the first that breaks it."""
    if not guarantees:
        return []
    run = _Run(trial, registry)
    times: Sequence[str | None] = cases.times or (None,)
    reached = _reaches(guarantees, Matrix(registry, cases), MATRIX_LIMIT // len(times))
    return [await run.hold(*each, times) for each in zip(guarantees, reached, strict=True)]


def _reaches(guarantees: Sequence[Guarantee], matrix: Matrix, limit: int) -> list[Reach]:
    """What each guarantee is held against. What those about little leave of the limit is for those about much."""
    found: dict[int, Reach] = {}
    left = limit
    for index in sorted(range(len(guarantees)), key=lambda index: matrix.size(guarantees[index])):
        found[index] = matrix.about(guarantees[index], max(1, left // (len(guarantees) - len(found))))
        left -= len(found[index].combinations)
    return [found[index] for index in range(len(guarantees))]


class _Run:
    """Decides each combination once, for however many guarantees."""

    def __init__(self, trial: RulebookTrial, registry: Registry) -> None:
        self._trial = trial
        self._registry = registry
        self._known: dict[_Asked, Decision] = {}

    async def hold(self, guarantee: Guarantee, reach: Reach, times: Sequence[str | None]) -> GuaranteeOutcome:
        asked = [(*combination, time) for time in times for combination in reach.combinations]
        checked = 0
        for batch in _batches(asked):
            decisions = await self._decide(batch)
            for each in batch:
                decision = decisions.get(each)
                if decision is None:
                    return GuaranteeOutcome(guarantee, checked, reach.complete, unanswered=True)
                checked += 1
                if breach := guarantee.broken_by(decision):
                    found = Counterexample(*each, decision, breach)
                    return GuaranteeOutcome(guarantee, checked, reach.complete, found)
        return GuaranteeOutcome(guarantee, checked, reach.complete)

    async def _decide(self, batch: Sequence[_Asked]) -> Mapping[_Asked, Decision]:
        """The well-formed decisions of these combinations."""
        items = {str(number): each for number, each in enumerate(batch) if each not in self._known}
        if items:
            try:
                decisions = await self._trial.decide([self._item(key, each) for key, each in items.items()])
            except NoDecision:
                decisions = {}
            self._known |= {items[key]: decision for key, decision in decisions.items()}
        return self._known

    def _item(self, key: str, asked: _Asked) -> dict[str, object]:
        """As the broker would ask it."""
        subject, record, time = asked
        record_type = self._registry.record_types[record.type]
        question = deliver_question(subject, record.topic, record_type, record.owner, record.labels)
        return {**question.item, "id": key} | ({} if time is None else {"time": time})


def _batches(asked: Sequence[_Asked]) -> Iterator[Sequence[_Asked]]:
    for first in range(0, len(asked), _BATCH):
        yield asked[first : first + _BATCH]


def _shown(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
