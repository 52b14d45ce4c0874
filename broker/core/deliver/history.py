"""What was considered for a stream since the ledger last said: where it began, what became of the records, and why.

The entries of a stream join without hole or overlap: each begins where the one before it ended. So the stretch that no
entry accounts for yet goes with the stream wherever it is served, and ends in its next delivery or in `stream_closed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from broker.core.decide import Ruling
from broker.core.deliver.standing import Standing
from broker.model.ledger import JsonValue
from broker.model.rulebook import Rules

MAX_DECISIONS = 1_000
"""Distinct decisions in the histories of one group, after which they are written out, whatever was released."""

MAX_BYTES = 2 << 20
"""About what the histories of one group may take in an entry; an append takes 8 MiB at most."""

MAX_HISTORIES = 64
"""Histories of one group that differ, after which they are written out."""


@dataclass(slots=True)
class Considered:
    """Records by what became of them, and those that a decision withheld (or something after it) by that decision.

    size_bytes: about what the distinct decisions take in an entry.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    withheld: Counter[Ruling] = field(default_factory=Counter)
    size_bytes: int = 0

    def withhold(self, ruling: Ruling, count: int = 1) -> None:
        """So many records of one decision; their outcomes are counted apart."""
        if ruling not in self.withheld:
            self.size_bytes += ruling.size_bytes
        self.withheld[ruling] += count

    def add(self, other: Considered) -> None:
        """What was considered besides."""
        self.outcomes.update(other.outcomes)
        for ruling, count in other.withheld.items():
            self.withhold(ruling, count)

    def copy(self) -> Considered:
        """One of its own."""
        return Considered(self.outcomes.copy(), self.withheld.copy(), self.size_bytes)


@dataclass(slots=True)
class History:
    """The stretch from `since`, up to which all is in the ledger, to `until`. Equal by value."""

    since: Standing
    until: Standing
    considered: Considered = field(default_factory=Considered)

    @classmethod
    def begin(cls, standing: Standing) -> History:
        """Nothing yet, from here on."""
        return cls(standing, standing)

    def extend(self, step: Considered, until: Standing) -> None:
        """Add what was considered from `until` to a new one."""
        self.until = until
        self.considered.add(step)

    def copy(self) -> History:
        """One of its own."""
        return History(self.since, self.until, self.considered.copy())

    def extended(self, step: Considered, until: Standing) -> History:
        """As `extend`, leaving this one as it is."""
        extended = self.copy()
        extended.extend(step, until)
        return extended

    def as_json(self, rules: Rules) -> dict[str, JsonValue]:
        """As it stands in the part `considered` of an entry under `rules`."""
        outcomes: dict[str, JsonValue] = dict(self.considered.outcomes)
        withheld: list[JsonValue] = [
            [ruling.told_under(rules), count] for ruling, count in self.considered.withheld.items()
        ]
        return {
            "from": self.since.as_json(),
            "to": self.until.as_json(),
            "outcomes": outcomes,
            "withheld": withheld,
        }


class Histories:
    """The histories of a group's members: one object for all that are equal, which only the group extends.

    So a step costs the same for one member as for thousands, as long as they have been together since the last entry.
    """

    def __init__(self) -> None:
        self._distinct: list[History] = []

    def adopt(self, history: History) -> History:
        """The one that the group extends for a member who joins with this one."""
        for mine in self._distinct:
            if mine == history:
                return mine
        self._distinct.append(history.copy())
        return self._distinct[-1]

    def adopt_all(self, histories: Iterable[History]) -> Mapping[int, History]:
        """As `adopt`, by the id of each."""
        return {id(history): self.adopt(history) for history in histories}

    def extend(self, step: Considered, until: Standing) -> None:
        """All of them."""
        for history in self._distinct:
            history.extend(step, until)

    def keep_only(self, used: Iterable[History]) -> None:
        """Forget those of members who have left."""
        self._distinct = list({id(history): history for history in used}.values())

    def exceed(self, step: Considered | None = None) -> bool:
        """Whether they should be written out before this step is added to each; without it, before anything else is."""
        distinct = len(self._distinct)
        size_bytes = sum(history.considered.size_bytes for history in self._distinct)
        rulings = sum(len(history.considered.withheld) for history in self._distinct)
        # One history takes any step: what a step adds is bounded by what is read at once.
        if step is not None and distinct > 1:
            size_bytes, rulings = (
                size_bytes + distinct * step.size_bytes,
                rulings + distinct * len(step.withheld),
            )
        return distinct > MAX_HISTORIES or size_bytes > MAX_BYTES or rulings > MAX_DECISIONS

    def part(self) -> set[int]:
        """The ids of those that are to be written out together: as many of the largest as one entry takes, at least one."""
        chosen: set[int] = set()
        size_bytes = 0
        for history in sorted(self._distinct, key=lambda each: -each.considered.size_bytes):
            size_bytes += history.considered.size_bytes
            if chosen and size_bytes > MAX_BYTES:
                break
            chosen.add(id(history))
        return chosen
