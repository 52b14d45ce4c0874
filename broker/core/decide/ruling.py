"""A question with its answer, as the ledger keeps it: enough to make the decision again (design rule 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from broker.core.decide.output import output_of
from broker.core.decide.question import Question
from broker.model.decision import Decision
from broker.model.ledger import JsonValue
from broker.model.rulebook import Rules

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Ruling:
    """One decision with its full input and output. `value` is shared by all entries that name it: never change it.

    Equal by value and rules, so that each stands once in an entry, whoever asked. size_bytes: about what it takes there.
    rules: by which it was made.
    """

    key: bytes
    value: dict[str, JsonValue] = field(compare=False, repr=False)
    size_bytes: int = field(compare=False)
    rules: Rules = field(compare=False)

    @classmethod
    def of(cls, question: Question, decision: Decision, rules: Rules) -> Ruling:
        """The input is the question's, with the `time` at which it was asked where the revision depends on that."""
        asked: dict[str, JsonValue] = orjson.loads(question.key)
        if decision.time is not None:
            asked["time"] = decision.time
        value: dict[str, JsonValue] = {"input": asked, "output": output_of(decision)}
        text = orjson.dumps(value)
        state = blake2b(text, digest_size=_KEY_BYTES)
        state.update(b"\0%b\0%b" % (rules.revision.encode(), rules.engine.encode()))
        return cls(state.digest(), value, len(text), rules)

    def told_under(self, rules: Rules) -> dict[str, JsonValue]:
        """As an entry under `rules` holds it: one that was made by other rules, before a switch, names them itself."""
        if self.rules == rules:
            return self.value
        return {**self.value, "under": {"revision": self.rules.revision, "engine": self.rules.engine}}
