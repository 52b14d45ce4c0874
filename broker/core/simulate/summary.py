"""From decided combinations to rows, what they come to for whole agencies, and counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.core.simulate.combinations import Chosen
from broker.core.simulate.compare import compare
from broker.core.simulate.model import (
    Combination,
    Example,
    Outcome,
    Part,
    Reach,
    RecordKind,
    Row,
    Shift,
    Tally,
    Volume,
)
from broker.core.simulate.stored import Stored
from broker.core.simulate.traffic import Traffic
from broker.model.decision import Effect

_Pair = tuple[str, str, str]
"""Owner, consumer, topic."""

_OUT = (Effect.RELEASE, Effect.NOTICE)
_SHIFTS = {Shift.GAINS: 0, Shift.LOSES: 1, Shift.DIFFERS: 2}


@dataclass(frozen=True, slots=True)
class Decided:
    """A combination with its outcomes."""

    combination: Combination
    part: Part
    before: Outcome
    after: Outcome


class Summary:
    """Joins outcomes with counts."""

    def __init__(self, traffic: Traffic, stored: Stored | None, chosen: Chosen) -> None:
        self._traffic = traffic
        self._stored = stored
        self._chosen = chosen

    def of(self, decided: Sequence[Decided]) -> tuple[tuple[Row, ...], tuple[Reach, ...], dict[str, Volume]]:
        """Rows, reaches and volumes, each in a fixed order."""
        rows = [row for each in decided if (row := self._row(each)) is not None]
        changed = {_pair(row.combination) for row in rows}
        return (
            tuple(sorted(rows, key=_order)),
            tuple(self._reaches(decided, changed)),
            self._volumes(decided, rows),
        )

    def _row(self, decided: Decided) -> Row | None:
        compared = compare(decided.before, decided.after)
        if compared is None:
            return None
        shift, details = compared
        combination = decided.combination
        return Row(
            decided.part,
            combination,
            shift,
            decided.before,
            decided.after,
            details,
            self._traffic.handed_out[combination],
            self._traffic.withheld[combination],
            self._kept(combination.record),
            self._kept(combination.record, decided.before),
            self._kept(combination.record, decided.after),
            self._example(combination.record),
        )

    def _kept(self, record: RecordKind, outcome: Outcome | None = None) -> int | None:
        """Stored records of a kind, and of these what an outcome lets out; None if nobody looked."""
        if self._stored is None:
            return None
        kept = self._stored.kinds.get(record)
        if kept is None or (outcome is not None and outcome.effect not in _OUT):
            return 0
        return kept.since(None if outcome is None else _ms(outcome.not_before))

    def _example(self, record: RecordKind) -> Example | None:
        kept = None if self._stored is None else self._stored.kinds.get(record)
        return kept.example if kept is not None else self._traffic.examples.get(record)

    def _reaches(self, decided: Iterable[Decided], changed: set[_Pair]) -> list[Reach]:
        recorded: dict[_Pair, list[int]] = defaultdict(lambda: [0, 0])
        # What classes get of one kind differs only in since when, so the most that one gets is what all of them get.
        stored: dict[_Pair, dict[RecordKind, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        for each in decided:
            pair = _pair(each.combination)
            if pair not in changed:
                continue
            combination = each.combination
            times = self._traffic.handed_out[combination] + self._traffic.withheld[combination]
            for side, outcome in enumerate((each.before, each.after)):
                recorded[pair][side] += times if outcome.effect in _OUT else 0
                most = stored[pair][combination.record]
                most[side] = max(most[side], self._kept(combination.record, outcome) or 0)
        known = self._stored is not None
        return [
            Reach(
                *pair,
                recorded[pair][0],
                recorded[pair][1],
                sum(most[0] for most in stored[pair].values()) if known else None,
                sum(most[1] for most in stored[pair].values()) if known else None,
            )
            for pair in sorted(changed)
        ]

    def _volumes(self, decided: Iterable[Decided], rows: Iterable[Row]) -> dict[str, Volume]:
        done = Counter((each.combination.record.owner, each.part) for each in decided)
        shifts = Counter((row.combination.record.owner, row.part, row.shift) for row in rows)
        handed_out = _by_owner(self._traffic.handed_out)
        withheld = _by_owner(self._traffic.withheld)
        cut = self._traffic.cut | (self._stored.cut if self._stored is not None else set())
        stored: Counter[str] = Counter()
        for kind, kept in self._stored.kinds.items() if self._stored is not None else ():
            stored[kind.owner] += kept.count
        return {
            owner: Volume(
                handed_out[owner],
                withheld[owner],
                stored[owner] if self._stored is not None else None,
                {
                    part: Tally(
                        self._possible(owner, part, done),
                        done[owner, part],
                        *(shifts[owner, part, shift] for shift in _SHIFTS),
                    )
                    for part in Part
                },
                owner in cut,
            )
            for owner in sorted({*self._chosen.possible, *cut, *stored})
        }

    def _possible(self, owner: str, part: Part, done: Counter[tuple[str, Part]]) -> int:
        """How many there are; of what could be, without what counts in the other parts."""
        possible = self._chosen.possible[owner][part]
        if part is Part.WHAT_IF:
            possible -= (
                self._chosen.possible[owner][Part.STORED] + self._chosen.possible[owner][Part.RECORDED]
            )
        return max(possible, done[owner, part])


def _pair(combination: Combination) -> _Pair:
    return combination.record.owner, combination.subject.agency, combination.record.topic


def _by_owner(counts: Counter[Combination]) -> Counter[str]:
    found: Counter[str] = Counter()
    for combination, times in counts.items():
        found[combination.record.owner] += times
    return found


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.astimezone(UTC).timestamp() * 1000)


def _order(row: Row) -> tuple[object, ...]:
    subject, record = row.combination.subject, row.combination.record
    who = (record.owner, subject.agency, record.topic, record.type, subject.purpose, subject.roles)
    labels = record.labels
    words = (labels.dataregulation, labels.datacategory, labels.purposes, labels.releasableto)
    return (*who, subject.attributes, _SHIFTS[row.shift], labels.dataclassification, *words)
