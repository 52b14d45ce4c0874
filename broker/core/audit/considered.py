"""What a delivery says of records: what went out, by which decisions, and what was considered on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt
from typing import Any, NamedTuple

from broker.core.audit.forms import FORMS
from broker.core.audit.opening import Opened, parse
from broker.core.audit.places import Places
from broker.core.audit.standings import Standing, Standings, Text, standing_text
from broker.core.audit.texts import Texts
from broker.core.ledger.runs import places_of

_WITHDRAWAL = "withdrawal"
_HANDED_OUT = ("release", "notice", _WITHDRAWAL)
_INSIDE = FORMS["delivery"].at["considered"] + 1
"""Where a delivery's form has what it finds in a plain history."""


class Outcomes(NamedTuple):
    """What became of the records that were considered: how many they were, and by effect how many went out."""

    considered: int
    handed_out: dict[str, int]

    @classmethod
    def of(cls, counts: dict[str, int]) -> Outcomes:
        """Raises TypeError for what are no counts."""
        return cls(
            sum(counts.values()), {effect: counts[effect] for effect in _HANDED_OUT if counts.get(effect)}
        )


class History(NamedTuple):
    """What was considered for some receivers, from one standing to another. receivers: their numbers, in canonical form.

    withheld: how many records by a decision.
    """

    since: Text
    until: Text
    outcomes: Outcomes
    withheld: int
    receivers: bytes


@dataclass(frozen=True, slots=True)
class Ruled:
    """A delivery's decisions: the effect of each and the owner of its records, and what is wrong with them."""

    effects: tuple[str, ...]
    owners: tuple[str, ...]
    faults: tuple[str, ...]

    @classmethod
    def of(cls, decisions: list[Any], group: dict[str, Any]) -> Ruled:
        """Each must let something out, and be about the receivers' class and topic."""
        effects = tuple(decision["output"]["effect"] for decision in decisions)
        faults = []
        if any(effect not in _HANDED_OUT for effect in effects):
            faults.append("a record was handed out that its decision withholds")
        expected = (group["topic"], group["agency"], group["purpose"])
        asked = [_asked(decision) for decision in decisions]
        if any((a["topic"], a["subject"]["agency"], a["subject"]["purpose"]) != expected for a in asked if a):
            faults.append("a decision is about another class than the receivers'")
        return cls(effects, tuple(a["record"]["agency"] if a else "" for a in asked), tuple(faults))


def _asked(decision: dict[str, Any]) -> dict[str, Any] | None:
    """What was asked; None for the notice of a withdrawal, which nobody is asked about and no owner holds up."""
    if decision["output"]["effect"] != _WITHDRAWAL:
        asked: dict[str, Any] = decision["input"]
        return asked
    if "input" in decision or not isinstance(decision["withdrawal"]["owner"], str):
        raise ValueError("neither a decision nor a notice")
    return None


class HandedOut:
    """What went out, in runs. total: how many; bounds: by partition the least offset and the greatest; counts: by effect."""

    __slots__ = ("bounds", "counts", "ruled", "runs", "total")

    def __init__(self, runs: list[Any], ruled: Ruled) -> None:
        """Raises LookupError, TypeError or ValueError for what are no runs; whether they are places `note` finds."""
        self.runs = runs
        self.ruled = ruled
        bounds: dict[int, tuple[int, int]] = {}
        counts: dict[str, int] = {}
        self.bounds, self.counts = bounds, counts
        total, effects = 0, ruled.effects
        for run in runs:
            partition, offset, number, count = run if len(run) == 4 else (*run, 1)
            if type(number) is not int or number < 0:
                raise ValueError("no number")
            total += count
            effect = effects[number]
            counts[effect] = counts.get(effect, 0) + count
            last = offset + count - 1
            if partition in bounds:
                least, most = bounds[partition]
                bounds[partition] = min(least, offset), max(most, last)
            else:
                bounds[partition] = offset, last
        self.total = total

    def note(self, released: Places, topic: str, index: int) -> None:
        """Add the places to those that were released. Raises TypeError or ValueError for what are no places."""
        for run in self.runs:
            if len(run) == 3:
                released.add(topic, run[0], run[1], index)
            else:
                partition, offset, _, count = run
                released.add_run(topic, partition, offset, count, index)


_TEXTS = 4_096
NOTHING = HandedOut([], Ruled((), (), ()))


class Histories:
    """Reads the part `considered`, and remembers what recurs."""

    def __init__(self) -> None:
        self.standings = Standings()
        self._outcomes = Texts(lambda counts: Outcomes.of(parse(counts)), _TEXTS)
        self._withheld = Texts(lambda pairs: sum(count for _, count in parse(pairs)), _TEXTS)

    def read(self, entry: Opened) -> list[History]:
        """Raises ValueError, LookupError or TypeError for what is not as documented."""
        if entry.kind == "delivery" and entry.taken is not None:
            since, outcomes, receivers, until, withheld = entry.taken[_INSIDE : _INSIDE + 5]
            if since:
                sum_withheld = 0 if withheld == b"[]" else self._withheld.get(withheld)
                return [History(since, until, self._outcomes.get(outcomes), sum_withheld, receivers)]
        return [
            History(
                standing_text(value["from"]),
                standing_text(value["to"]),
                Outcomes.of(value["outcomes"]),
                sum(count for _, count in value["withheld"]),
                standing_text(value.get("receivers", [])),
            )
            for value in parse(entry.content("considered"))
        ]

    def check(self, history: History, handed: HandedOut) -> str | None:
        """What does not add up, if anything: what went out lies in the range, and the counts are the range's."""
        since, until = self.standings.read(history.since), self.standings.read(history.until)
        low, high = since.next, until.next
        if len(low) != len(high):
            raise ValueError("standings of two topics")
        if any(map(gt, low, high)):
            return "a stretch that was considered ends before it begins"
        considered, handed_out = history.outcomes
        if handed_out != handed.counts:
            return "what was considered counts other releases than the places say"
        if since.lags or until.lags:
            inside = all(
                _newly_dealt_with(since, until, place, handed.ruled) for place in places_of(handed.runs)
            )
        elif considered != until.total - since.total:
            return "the counts do not add up to the range that was considered"
        else:
            inside = True
            for partition, (least, most) in handed.bounds.items():
                inside = inside and low[partition] <= least and most < high[partition]
        if not inside:
            return "a record was handed out that lies outside what was considered"
        if history.withheld > considered - handed.total:
            return "more decisions withheld records than records were withheld"
        return None


def _newly_dealt_with(since: Standing, until: Standing, place: Sequence[int], ruled: Ruled) -> bool:
    partition, offset, number = place
    owner = ruled.owners[number]
    return until.has_dealt_with(partition, offset, owner) and not since.has_dealt_with(
        partition, offset, owner
    )
