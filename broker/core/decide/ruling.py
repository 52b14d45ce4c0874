"""A question with its answer, as the ledger keeps it: enough to make the decision again (design rule 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from broker.core.decide.output import output_of
from broker.core.decide.question import Question
from broker.model.decision import Decision
from broker.model.ledger import JsonValue

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Ruling:
    """One decision with its full input and output. `value` is shared by all entries that name it: never change it.

    Equal by value, so that each stands once in an entry, whoever asked. size_bytes: about what it takes in an entry.
    """

    key: bytes
    value: dict[str, JsonValue] = field(compare=False, repr=False)
    size_bytes: int = field(compare=False)

    @classmethod
    def of(cls, question: Question, decision: Decision) -> Ruling:
        """The input is the question's, with the `time` at which it was asked where the revision depends on that."""
        asked: dict[str, JsonValue] = orjson.loads(question.key)
        if decision.time is not None:
            asked["time"] = decision.time
        value: dict[str, JsonValue] = {"input": asked, "output": output_of(decision)}
        text = orjson.dumps(value)
        return cls(blake2b(text, digest_size=_KEY_BYTES).digest(), value, len(text))
