"""What a delivery says of records: what went out, by which decisions, and what was considered on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from broker.core.audit.places import Places
from broker.core.audit.standings import Standing, dealt_with

_HANDED_OUT = ("release", "notice")


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
        asked = [decision["input"] for decision in decisions]
        if any((a["topic"], a["subject"]["agency"], a["subject"]["purpose"]) != expected for a in asked):
            faults.append("a decision is about another class than the receivers'")
        return cls(effects, tuple(a["record"]["agency"] for a in asked), tuple(faults))


@dataclass(slots=True)
class HandedOut:
    """What went out. bounds: by partition the least offset and the greatest; counts: by effect."""

    topic: str
    places: list[list[int]]
    ruled: Ruled
    bounds: dict[int, list[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def note(self, released: Places, index: int) -> None:
        """Count, and add the places to those that were released. Raises LookupError, TypeError, ValueError."""
        bounds, add, topic = self.bounds, released.add, self.topic
        tally = [0] * len(self.ruled.effects)
        for partition, offset, number in self.places:
            add(topic, partition, offset, index)
            tally[number] += 1
            known = bounds.get(partition)
            if known is None:
                bounds[partition] = [offset, offset]
            elif offset > known[1]:
                known[1] = offset
            elif offset < known[0]:
                known[0] = offset
        counts = self.counts
        for effect, count in zip(self.ruled.effects, tally, strict=True):
            counts[effect] = counts.get(effect, 0) + count


NOTHING = HandedOut("", [], Ruled((), (), ()))


def check_history(history: dict[str, Any], handed: HandedOut) -> str | None:
    """What does not add up, if anything: what went out lies in the range that was considered, and the counts are its own."""
    since, until, outcomes = history["from"], history["to"], history["outcomes"]
    low, high = since["next"], until["next"]
    for a, b in zip(low, high, strict=True):
        if a > b:
            return "a stretch that was considered ends before it begins"
    considered, counts = sum(outcomes.values()), handed.counts
    for effect in _HANDED_OUT:
        if outcomes.get(effect, 0) != counts.get(effect, 0):
            return "what was considered counts other releases than the places say"
    if since["lags"] or until["lags"]:
        inside = all(_newly_dealt_with(since, until, place, handed.ruled) for place in handed.places)
    else:
        if considered != sum(high) - sum(low):
            return "the counts do not add up to the range that was considered"
        inside = True
        for partition, (least, most) in handed.bounds.items():
            inside = inside and low[partition] <= least and most < high[partition]
    if not inside:
        return "a record was handed out that lies outside what was considered"
    withheld = history["withheld"]
    if withheld and sum([count for _, count in withheld]) > considered - len(handed.places):
        return "more decisions withheld records than records were withheld"
    return None


def _newly_dealt_with(since: Standing, until: Standing, place: list[int], ruled: Ruled) -> bool:
    partition, offset, number = place
    owner = ruled.owners[number]
    return dealt_with(until, partition, offset, owner) and not dealt_with(since, partition, offset, owner)
