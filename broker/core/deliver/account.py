"""What a batch's ledger entry says: the range considered, each decision with its full input, and what was handed out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from broker.core.decide import ENGINE_FAULT, Question
from broker.core.decide.output import output_of
from broker.model.decision import Decision
from broker.model.ledger import JsonValue
from broker.model.record import Positions, StoredRecord


@dataclass(slots=True)
class Account:
    """Collects while a batch is prepared; `as_body` never holds a payload."""

    decisions: list[JsonValue] = field(default_factory=list)
    released: list[JsonValue] = field(default_factory=list)
    faulted: list[JsonValue] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    _index: dict[bytes, int] = field(default_factory=dict)

    def decision(self, question: Question, decision: Decision) -> int:
        """The decision's number in this entry."""
        number = self._index.get(question.key)
        if number is None:
            number = self._index[question.key] = len(self.decisions)
            self.decisions.append({"input": _json(question.item), "output": output_of(decision)})
        return number

    def withhold(self, stored: StoredRecord, outcome: str) -> None:
        """A record that does not go out; where the engine failed its place is kept, since it can be delivered later."""
        self.outcomes[outcome] += 1
        if outcome == ENGINE_FAULT:
            self.faulted.append([stored.partition, stored.offset])

    def hand_out(self, stored: StoredRecord, decision_number: int) -> None:
        """A record or notice that goes out."""
        self.released.append([stored.partition, stored.offset, decision_number])

    def as_body(self, begin: Positions, end: Positions) -> dict[str, JsonValue]:
        """The entry's part that is the same for all subscriptions of the group."""
        bounds = zip(begin, end, strict=True)
        ranges: list[JsonValue] = [[partition, low, high] for partition, (low, high) in enumerate(bounds)]
        counts: dict[str, JsonValue] = dict(self.outcomes)
        return {"ranges": ranges, "outcomes": counts, "released": self.released, "decisions": self.decisions}


def _json(value: object) -> JsonValue:
    match value:
        case dict():
            return {str(name): _json(member) for name, member in value.items()}
        case list() | tuple():
            return [_json(member) for member in value]
        case str() | int() | float() | bool() | None:
            return value
    raise TypeError("a decision's input holds only JSON values")
