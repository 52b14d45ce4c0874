"""What the ledger has recorded: each distinct question about deliveries, and how often it was decided.

The inputs of decisions that handed something out stand in `decisions`, those that withheld in `considered`; how many
records and receivers each was for stands beside them. Names of records come from the publications.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import orjson

from broker.core.ledger.leaf import EntryInvalid, Openings, read_leaf, read_openings
from broker.core.ledger.runs import places_of
from broker.core.record.envelope import source_agency
from broker.core.simulate.model import Combination, Example, RecordKind
from broker.model.labels import Labels
from broker.model.ledger import EncodedEntry, JsonValue
from broker.model.principal import SubjectClass

MOST_COMBINATIONS = 100_000
"""Distinct questions that are kept; with the examples about 200 MB at the very most, 1 KB each as a rule."""

MOST_LAST = 1_000_000
"""The most that `last` may be."""

_KINDS = frozenset({"delivery", "stream_closed", "publish"})
_REMEMBERED = 4_096
_UNREADABLE = (EntryInvalid, LookupError, TypeError, ValueError, AttributeError)


@dataclass(slots=True)
class Traffic:
    """handed_out, withheld: how often each combination was decided so, once for each record and receiver.

    examples: one record of each kind, as it was published. cut: owners of whom more distinct combinations were recorded
    than are kept. unread: entries whose openings are erased or not as documented.
    """

    handed_out: Counter[Combination] = field(default_factory=Counter)
    withheld: Counter[Combination] = field(default_factory=Counter)
    examples: dict[RecordKind, Example] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    unread: int = 0

    def combinations(self) -> list[Combination]:
        """Each that was decided, the most frequent first."""
        return [combination for combination, _ in (self.handed_out + self.withheld).most_common()]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A recorded decision, how many times it was made, and whether it handed something out."""

    combination: Combination
    times: int
    released: bool


class TrafficReader:
    """Takes in entries in any order of instances; blocking, so that a broker has it done beside its event loop."""

    def __init__(
        self, *, since_ms: int | None = None, last: int | None = None, owner: str | None = None
    ) -> None:
        """since_ms: entries from then on. last: the newest so many decisions only.

        owner: what its administrators may know: decisions about this agency's records, and only those that handed one out.
        """
        self._since_ms = since_ms
        self._last = last
        self._owner = owner
        self._traffic = Traffic()
        self._newest: list[tuple[int, int, _Decided]] = []
        self._total = 0
        self._number = count()
        self._known: dict[bytes, tuple[Combination | None, ...]] = {}

    def add(self, entries: Sequence[EncodedEntry]) -> None:
        """Take in more entries."""
        for entry in entries:
            try:
                leaf = read_leaf(entry.leaf)
                if leaf.kind not in _KINDS or (self._since_ms is not None and leaf.time_ms < self._since_ms):
                    continue
                if not entry.openings:
                    self._traffic.unread += 1
                    continue
                openings = read_openings(entry.openings)
                if leaf.kind == "publish":
                    self._published(leaf.time_ms, openings)
                else:
                    self._decided(leaf.time_ms, openings)
            except _UNREADABLE:
                self._traffic.unread += 1

    def traffic(self) -> Traffic:
        """What has been taken in."""
        for _, _, decided in self._newest:
            self._keep(decided)
        self._newest.clear()
        return self._traffic

    def _decided(self, time_ms: int, openings: Openings) -> None:
        for decided in self._recorded(openings):
            if not decided.times or (
                self._owner is not None
                and (decided.combination.record.owner != self._owner or not decided.released)
            ):
                continue
            if self._last is None:
                self._keep(decided)
            else:
                self._push(time_ms, decided, self._last)

    def _recorded(self, openings: Openings) -> Iterator[_Decided]:
        """Each decision of an entry with how many records, for how many receivers, it was made."""
        parts = openings.parts
        if "decisions" in parts:
            receivers = len(parts["receivers"])
            handed_out = Counter(number for _, _, number in places_of(orjson.loads(parts["places"][0])))
            for number, combination in enumerate(self._combinations(parts["decisions"][0])):
                if combination is not None:
                    yield _Decided(combination, handed_out[number] * receivers, True)
        histories = orjson.loads(parts["considered"][0])
        for history in histories if isinstance(histories, list) else [histories]:
            receivers = len(history.get("receivers", (None,)))
            for decision, records in history["withheld"]:
                combination = _combination(decision)
                if combination is not None:
                    yield _Decided(combination, records * receivers, False)

    def _combinations(self, content: bytes) -> tuple[Combination | None, ...]:
        """Entry after entry holds the same decisions, which need not be read again."""
        known = self._known.get(content)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[content] = tuple(map(_combination, orjson.loads(content)))
        return known

    def _push(self, time_ms: int, decided: _Decided, last: int) -> None:
        """Keep it among the newest, and let go what is not needed for the wanted number of them."""
        heapq.heappush(self._newest, (time_ms, next(self._number), decided))
        self._total += decided.times
        while self._total - self._newest[0][2].times >= last:
            self._total -= heapq.heappop(self._newest)[2].times

    def _keep(self, decided: _Decided) -> None:
        traffic, combination = self._traffic, decided.combination
        known = combination in traffic.handed_out or combination in traffic.withheld
        if not known and len(traffic.handed_out) + len(traffic.withheld) >= MOST_COMBINATIONS:
            traffic.cut.add(combination.record.owner)
            return
        (traffic.handed_out if decided.released else traffic.withheld)[combination] += decided.times

    def _published(self, time_ms: int, openings: Openings) -> None:
        topic = orjson.loads(openings.parts["call"][0])["topic"]
        examples = self._traffic.examples
        for item in openings.parts["records"]:
            row = orjson.loads(item)
            owner = source_agency(row.get("source", ""))
            if "refused" in row or owner is None or self._owner not in (None, owner):
                continue
            kind = RecordKind(topic, row["type"], owner, _labels(row["labels"]))
            if kind in examples or len(examples) < MOST_COMBINATIONS:
                examples[kind] = Example(row["source"], row["id"], time_ms)


def _combination(decision: JsonValue) -> Combination | None:
    """What was asked about a delivery; None for another action."""
    match decision:
        case {
            "input": {
                "action": "deliver",
                "topic": str(topic),
                "subject": {
                    "agency": str(agency),
                    "roles": list(roles),
                    "attributes": dict(attributes),
                    "purpose": str(purpose),
                },
                "record": {"type": str(name), "agency": str(owner), "labels": dict(labels)},
            }
        }:
            pairs = tuple(sorted((key, str(value)) for key, value in attributes.items()))
            subject = SubjectClass(agency, tuple(map(str, roles)), pairs, purpose)
            return Combination(subject, RecordKind(topic, name, owner, _labels(labels)))
    return None


def _labels(labels: Mapping[str, JsonValue]) -> Labels:
    """Labels as inputs and publications spell them. Raises LookupError and TypeError for anything else."""

    def words(name: str) -> tuple[str, ...]:
        value = labels[name]
        if not isinstance(value, list):
            raise TypeError(name)
        return tuple(map(str, value))

    return Labels(
        dataclassification=str(labels["dataclassification"]),
        dataregulation=words("dataregulation"),
        datacategory=str(labels["datacategory"]),
        purposes=words("purposes"),
        releasableto=words("releasableto"),
    )
