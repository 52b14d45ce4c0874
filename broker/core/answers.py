"""What one revision answers somebody now; without an answer nothing is permitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.core.decide import Decider, Question, Ruling
from broker.errors import EntenteError, Reason
from broker.model.decision import Decision
from broker.model.rulebook import Rules
from broker.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with its decision; permitted: and the decision holds now."""

    question: Question
    decision: Decision
    rules: Rules
    permitted: bool

    @property
    def ruling(self) -> Ruling:
        """As the ledger names it."""
        return Ruling.of(self.question, self.decision, self.rules)


async def answers_to(questions: Sequence[Question], decider: Decider, clock: Clock) -> list[Answer]:
    """An answer for each question, in order. Raises EntenteError POLICY_UNAVAILABLE if one has no decision now."""
    decisions = await decider.decide(questions)
    # An agreement that has ended permits nothing any more.
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    answers, rules = [], decider.rules
    for question, decision in zip(questions, decisions, strict=True):
        if decision is None:
            raise EntenteError(Reason.POLICY_UNAVAILABLE)
        answers.append(Answer(question, decision, rules, decision.permitted and decision.holds_at(now)))
    return answers
