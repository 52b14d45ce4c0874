"""What a replay comes to: counts, and each decision that came out otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from broker.model.ledger import JsonValue
from broker.model.rulebook import Rules


class Outcome(StrEnum):
    """What came of a recorded decision that does not simply agree."""

    DIFFERS = "differs"
    FAULT_ANSWERED = "engine fault, answered now"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ReplayFinding:
    """A recorded decision that came out otherwise, or an entry that cannot be read.

    index: the entry's, -1 if not even its leaf can be read. part, number: where in the entry the decision stands.
    replayed: None where the rules give no well-formed decision.
    """

    outcome: Outcome
    instance: str
    index: int
    kind: str
    problem: str
    part: str = ""
    number: int = 0
    rules: Rules | None = None
    input: JsonValue = None
    recorded: JsonValue = None
    replayed: JsonValue = None


@dataclass(slots=True)
class Missing:
    """How many decisions of some rules were not made again, why, and in which entry the first of them is."""

    problem: str
    instance: str
    index: int
    decisions: int = 0


@dataclass(slots=True)
class ReplayTally:
    """Counts so far; decisions = agree + differ + faults + those in `missing`. seconds: what the run took.

    erased: entries whose openings are gone, so that nothing of them can be made again. evaluated: distinct questions that
    an engine was asked. faults: decisions that the broker recorded because its engine gave none.
    """

    entries: int = 0
    erased: int = 0
    unreadable: int = 0
    decisions: int = 0
    evaluated: int = 0
    agree: int = 0
    differ: int = 0
    faults: int = 0
    faults_answered: int = 0
    seconds: float = 0.0
    by_rules: Counter[Rules] = field(default_factory=Counter)
    missing: dict[Rules, Missing] = field(default_factory=dict)

    @property
    def faulty(self) -> bool:
        """Whether something is not as it should be."""
        return bool(self.differ or self.unreadable)

    @property
    def complete(self) -> bool:
        """Whether every decision of every entry was made again."""
        return not (self.missing or self.erased or self.unreadable)
