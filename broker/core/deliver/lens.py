"""How one class sees one topic through one revision."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.decide import Decider, Question, Ruling
from broker.core.deliver.disclose import Discloser, Treated
from broker.core.deliver.outcomes import Seen
from broker.core.deliver.view import LabelSet, RecordViews
from broker.core.questions import deliver_question
from broker.core.regime import Regime
from broker.model.decision import Decision
from broker.model.principal import SubjectClass

_LIMIT = 1_000
"""Label sets of which anything is kept."""


@dataclass(slots=True, eq=False)
class Verdict:
    """A decision about one label set, as the ledger names it and, once something goes out by it, compiled."""

    decision: Decision
    ruling: Ruling
    outcome: str
    treated: Treated | None = None


class Lens:
    """How one class sees one topic through one revision: questions and compiled treatments by label set."""

    def __init__(
        self,
        topic: str,
        subject: SubjectClass,
        decider: Decider,
        views: RecordViews,
        discloser: Discloser,
        seen: Seen | None = None,
    ) -> None:
        self.topic = topic
        self.subject = subject
        self.decider = decider
        self.views = views
        self.discloser = discloser
        self._seen = seen
        self._rules = decider.rules
        self._questions: dict[LabelSet, Question] = {}
        self._verdicts: dict[LabelSet, Verdict] = {}

    @classmethod
    def of(cls, regime: Regime, topic: str, subject: SubjectClass, seen: Seen) -> Lens:
        """Through the revision of a regime; seen: takes note of what it decides."""
        return cls(topic, subject, regime.decider, regime.views, regime.discloser, seen)

    def question(self, label_set: LabelSet) -> Question:
        """The question for records of this label set, made once."""
        question = self._questions.get(label_set)
        if question is None:
            if len(self._questions) >= _LIMIT:
                self._questions.clear()
            question = deliver_question(
                self.subject, self.topic, label_set.record_type, label_set.owner, label_set.labels
            )
            self._questions[label_set] = question
        return question

    def verdict(self, label_set: LabelSet, decision: Decision) -> Verdict:
        """What the decision comes to, made once for each decision."""
        known = self._verdicts.get(label_set)
        if known is not None and known.decision is decision:
            return known
        if len(self._verdicts) >= _LIMIT:
            self._verdicts.clear()
        ruling = Ruling.of(self.question(label_set), decision, self._rules)
        verdict = self._verdicts[label_set] = Verdict(decision, ruling, decision.effect.value)
        if self._seen is not None:
            self._seen.note(label_set, decision)
        return verdict

    def treated(self, label_set: LabelSet, verdict: Verdict) -> Treated:
        """The decision compiled, made once for each decision; raises Unredactable."""
        if verdict.treated is None:
            verdict.treated = self.discloser.treat(verdict.decision, label_set, self.subject)
        return verdict.treated
