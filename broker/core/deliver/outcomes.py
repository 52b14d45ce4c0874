"""Whether one class is shown the same by two revisions, as far as anybody who receives could tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.decide import Question, Ruling
from broker.core.deliver.view import LabelSet
from broker.core.questions import deliver_question
from broker.core.regime import Regime
from broker.model.decision import Decision, Effect
from broker.model.principal import SubjectClass
from broker.model.registry import RecordType

_AT_ONCE = 50
"""Label sets that are compared before others have their turn."""

_TOLD = ("effect", "treatments", "obligations", "not_before", "valid_until")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was decided about one topic for one class by an earlier revision, by label set."""

    topic: str
    subject: SubjectClass
    decisions: Sequence[tuple[LabelSet, Decision]]

    def question(self, regime: Regime, label_set: LabelSet) -> Question | None:
        """The same question for a revision; None where that cannot place the records, and withholds them."""
        record_type = regime.registry.record_types.get(label_set.record_type.name)
        if record_type is None or label_set.owner not in regime.registry.agencies:
            return None
        return deliver_question(self.subject, self.topic, record_type, label_set.owner, label_set.labels)


async def is_shown_otherwise(seen: Seen, regime: Regime) -> bool | None:
    """Whether a revision shows the class something else; None: nothing yet, but not everything is decided.

    Asks nobody: what has not been decided is opened, and found later.
    """
    undecided = False
    for number, (label_set, before) in enumerate(seen.decisions, 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        question = seen.question(regime, label_set)
        after = None
        if question is not None and (after := regime.decider.recall(question)) is None:
            undecided = True
            continue
        record_type = regime.registry.record_types.get(label_set.record_type.name)
        if _outcome(before, label_set.record_type) != _outcome(after, record_type):
            return True
    return None if undecided else False


async def decide_again(seen: Seen, regime: Regime) -> None:
    """Have everything decided by a revision that was decided before; waits a second at most for each part."""
    questions = []
    for number, (label_set, _) in enumerate(seen.decisions, 1):
        question = seen.question(regime, label_set)
        if question is not None and regime.decider.recall(question) is None:
            questions.append(question)
        if len(questions) == _AT_ONCE or number == len(seen.decisions):
            await regime.decider.decide(questions)
            questions = []


def is_permitted_otherwise(before: Sequence[Ruling], after: Sequence[Ruling]) -> bool:
    """Whether a stream may go on, but by another decision about the stream itself."""
    return [_told(ruling) for ruling in before] != [_told(ruling) for ruling in after]


def _told(ruling: Ruling) -> Mapping[str, object]:
    output = ruling.value["output"]
    return {name: output.get(name) for name in _TOLD} if isinstance(output, Mapping) else {}


def _outcome(decision: Decision | None, record_type: RecordType | None) -> tuple[object, ...]:
    """What shows of a decision: never why, nor what it says about records that do not go out."""
    if decision is None or record_type is None or decision.effect is Effect.WITHHOLD:
        return (Effect.WITHHOLD,)
    told = (decision.effect, frozenset(decision.obligations), decision.not_before, decision.valid_until)
    if decision.effect is Effect.NOTICE:
        return told
    return (*told, decision.treatments, record_type.fields, record_type.attributes)
