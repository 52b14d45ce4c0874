"""Whether one class is shown the same by two revisions, as far as anybody who receives could tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker.core.decide import Question, Ruling
from broker.core.deliver.view import LabelSet
from broker.core.questions import deliver_question
from broker.core.regime import Regime
from broker.model.decision import Decision, Effect
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import RecordType

MET = 1_000
"""Label sets that are remembered for each class, the newest."""

_AT_ONCE = 50
"""Label sets that are looked at before others have their turn."""

_TOLD = ("effect", "treatments", "obligations", "not_before", "valid_until")

_Name = tuple[str, str, Labels]


class Seen:
    """The label sets that one class has met on one topic, under whatever revision, and what one regime says of each."""

    def __init__(self, regime: Regime, topic: str, subject: SubjectClass, before: Seen | None = None) -> None:
        """before: what the class has met under the regime before."""
        self._regime = regime
        self._topic = topic
        self._subject = subject
        self._met: dict[_Name, None] = dict(before._met) if before is not None else {}
        self._questions: dict[_Name, Question | None] = {}
        self._decisions: dict[_Name, Decision] = {}

    def follow(self, before: Seen) -> None:
        """Take over what was met since this was made."""
        self._met = {**before._met, **self._met}

    def note(self, label_set: LabelSet, decision: Decision) -> None:
        """Met now, and decided so."""
        name = (label_set.record_type.name, label_set.owner, label_set.labels)
        self._met[name] = None
        self._decisions[name] = decision
        if len(self._met) > MET:
            oldest = next(iter(self._met))
            for kept in (self._met, self._questions, self._decisions):
                kept.pop(oldest, None)

    @property
    def names(self) -> Sequence[_Name]:
        """What was met."""
        return tuple(self._met)

    def record_type(self, name: _Name) -> RecordType | None:
        """As the regime registers it; None where it cannot place such records, and withholds them."""
        known = self._regime.registry
        return known.record_types.get(name[0]) if name[1] in known.agencies else None

    def question(self, name: _Name) -> Question | None:
        """What the regime is asked about such records; made once."""
        if name not in self._questions:
            found, (_, owner, labels) = self.record_type(name), name
            self._questions[name] = (
                deliver_question(self._subject, self._topic, found, owner, labels)
                if found is not None
                else None
            )
        return self._questions[name]

    def decision(self, name: _Name) -> Decision | None:
        """What the regime has decided last, if it has."""
        question = self.question(name)
        if question is None:
            return None
        return self._decisions.get(name) or self._regime.decider.recall(question)

    async def decide(self) -> None:
        """Have the regime decide what it has not yet; waits a second at most for each part."""
        questions: list[Question] = []
        names = self.names
        for number, name in enumerate(names, 1):
            question = self.question(name)
            if question is not None and self.decision(name) is None:
                questions.append(question)
            if number % _AT_ONCE == 0 or number == len(names):
                await (self._regime.decider.decide(questions) if questions else asyncio.sleep(0))
                questions = []


async def is_shown_otherwise(before: Seen, after: Seen) -> bool | None:
    """Whether the later regime shows the class something else; None: nothing yet, but not everything is decided.

    Asks nobody. What the earlier regime had not decided either was not shown.
    """
    undecided = False
    for number, name in enumerate(before.names, 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        was, now = before.decision(name), after.decision(name)
        if was is None and before.question(name) is not None:
            continue
        if now is None and after.question(name) is not None:
            undecided = True
        elif _outcome(was, before.record_type(name)) != _outcome(now, after.record_type(name)):
            return True
    return None if undecided else False


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
