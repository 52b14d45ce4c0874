"""What is to be decided: what was recorded, what is stored for those who come near it, and what could be.

There is a limit, since agencies times kinds of records grow fast. Within it, what was recorded comes first, then what is
stored, then what could be: pairs with an agreement and whatever the change touches before the others, and of those that
are too many some evenly, always the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from broker.core.rulebook.guarantees.matrix import classes_of
from broker.core.rulebook.spread import spread
from broker.core.simulate.model import Combination, Part, RecordKind
from broker.core.simulate.stored import Stored
from broker.core.simulate.traffic import Traffic
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Registry

_FOLDERS = {"agencies": 1, "data/agencies": 2, "data/record_types": 2, "data/agreements": 2}
_UNLABELLED = Labels("")


@dataclass(slots=True)
class Chosen:
    """combinations: what is to be decided, each with the part in which it counts. possible: by owner and part how many.

    What could be is counted in pairs of a class and a kind, of which some are in the other parts.
    """

    combinations: dict[Combination, Part] = field(default_factory=dict)
    possible: dict[str, dict[Part, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )

    def add(self, part: Part, combination: Combination) -> None:
        """Unless another part has it."""
        self.combinations.setdefault(combination, part)


@dataclass(frozen=True, slots=True)
class _Block:
    """Every pair of one of these agencies and one of these kinds."""

    agencies: Sequence[str]
    kinds: Sequence[RecordKind]

    def __len__(self) -> int:
        return len(self.agencies) * len(self.kinds)

    def pair(self, index: int) -> tuple[str, RecordKind]:
        """The pair of this number."""
        kind, agency = divmod(index, len(self.agencies))
        return self.agencies[agency], self.kinds[kind]


class Choice:
    """Chooses combinations for two registries."""

    def __init__(
        self, registries: Sequence[Registry], touched: Collection[str], limit: int, owner: str | None
    ) -> None:
        """touched: agencies whose part of the rulebook differs. owner: only this agency's records."""
        self._registries = registries
        self._touched = touched
        self._limit = limit
        self._owner = owner
        self._classes: dict[str, tuple[SubjectClass, ...]] = {}
        self._agencies = sorted({name for registry in registries for name in registry.agencies})

    def choose(self, traffic: Traffic, stored: Stored | None) -> Chosen:
        """Within the limit, the most frequent of what was recorded first."""
        chosen = Chosen()
        self._recorded(traffic, chosen)
        kinds = stored.kinds if stored is not None else {}
        self._near_stored(sorted(kinds, key=_order), traffic, chosen)
        occurring = {*kinds, *traffic.examples, *(each.record for each in traffic.combinations())}
        self._what_if(sorted(self._everywhere(occurring), key=_order), chosen)
        return chosen

    def _recorded(self, traffic: Traffic, chosen: Chosen) -> None:
        for combination in traffic.combinations():
            chosen.possible[combination.record.owner][Part.RECORDED] += 1
            if len(chosen.combinations) < self._limit:
                chosen.add(Part.RECORDED, combination)

    def _near_stored(self, kinds: Sequence[RecordKind], traffic: Traffic, chosen: Chosen) -> None:
        """Stored kinds, each for the classes that came for its topic and those that an agreement for it names."""
        present: dict[str, set[SubjectClass]] = defaultdict(set)
        for each in traffic.combinations():
            present[each.record.topic].add(each.subject)
        named = self._named()
        for kind in kinds:
            near = {*present[kind.topic], *named.get((kind.owner, kind.topic), ())}
            for subject in sorted(near, key=_class_order):
                combination = Combination(subject, kind)
                if combination not in chosen.combinations:
                    chosen.possible[kind.owner][Part.STORED] += 1
                    if len(chosen.combinations) < self._limit:
                        chosen.add(Part.STORED, combination)

    def _named(self) -> Mapping[tuple[str, str], set[SubjectClass]]:
        """By owner and topic the classes of agreements' consumers, for the agreements' purposes."""
        named: dict[tuple[str, str], set[SubjectClass]] = defaultdict(set)
        for registry in self._registries:
            granted = registry.agreements if self._owner is None else registry.granted_by(self._owner)
            for agreement in granted:
                classes = self._classes_of(agreement.consumer)
                wanted = [each for each in classes if each.purpose in agreement.purposes]
                for topic in agreement.topics:
                    named[agreement.owner, topic].update(wanted)
        return named

    def _what_if(self, kinds: Sequence[RecordKind], chosen: Chosen) -> None:
        """Every agency with every kind that occurs, or could."""
        classes = sum(len(self._classes_of(agency)) for agency in self._agencies)
        for kind in kinds:
            chosen.possible[kind.owner][Part.WHAT_IF] += classes
        for blocks in self._blocks(kinds):
            self._spread(blocks, chosen)

    def _spread(self, blocks: Sequence[_Block], chosen: Chosen) -> None:
        """The blocks' combinations, evenly if not all of them fit."""
        ends = list(accumulate(map(len, blocks)))
        left = self._limit - len(chosen.combinations)
        if not ends or not ends[-1] or left <= 0:
            return
        mean = max(1, sum(map(len, self._classes.values())) // max(1, len(self._classes)))
        for index in spread(ends[-1], max(1, 2 * left // mean)):
            number = bisect_right(ends, index)
            agency, kind = blocks[number].pair(index - (ends[number - 1] if number else 0))
            for subject in self._classes_of(agency):
                if len(chosen.combinations) >= self._limit:
                    return
                chosen.add(Part.WHAT_IF, Combination(subject, kind))

    def _blocks(self, kinds: Sequence[RecordKind]) -> Iterator[list[_Block]]:
        """What the change touches and has an agreement, what has an agreement or is touched, and all the rest."""
        by_owner: dict[str, list[RecordKind]] = defaultdict(list)
        for kind in kinds:
            by_owner[kind.owner].append(kind)
        near = {owner: _Block(self._near(owner), mine) for owner, mine in by_owner.items()}
        yield [block for owner, block in near.items() if owner in self._touched]
        touched = [agency for agency in self._agencies if agency in self._touched]
        yield [*near.values(), _Block(touched, kinds)]
        yield [_Block(self._agencies, kinds)]

    def _near(self, owner: str) -> list[str]:
        """The agency itself, and those with which it has an agreement."""
        granted = (each for registry in self._registries for each in registry.granted_by(owner))
        return sorted({owner, *(agreement.consumer for agreement in granted)})

    def _everywhere(self, occurring: Collection[RecordKind]) -> Iterator[RecordKind]:
        """The kinds that occur, on every topic that takes their type; where none does, one of each classification."""
        labels: dict[tuple[str, str], set[Labels]] = defaultdict(set)
        seen: set[RecordKind] = set()
        for kind in occurring:
            labels[kind.owner, kind.type].add(kind.labels)
            if kind not in seen:
                seen.add(kind)
                yield kind
        for registry in self._registries:
            assumed = [
                replace(_UNLABELLED, dataclassification=word) for word in registry.vocabulary.classifications
            ]
            for topic, name, owner in _placed(registry, self._owner):
                for each in labels.get((owner, name)) or assumed:
                    kind = RecordKind(topic, name, owner, each)
                    if kind not in seen:
                        seen.add(kind)
                        yield kind

    def _classes_of(self, agency: str) -> tuple[SubjectClass, ...]:
        """The classes that an agency's tokens can make under either registry."""
        known = self._classes.get(agency)
        if known is None:
            found = {
                each: None
                for registry in self._registries
                if agency in registry.agencies
                for each in classes_of(registry.agencies[agency], registry.vocabulary)
            }
            known = self._classes[agency] = tuple(found)
        return known


def touched_agencies(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> frozenset[str]:
    """The agencies in whose own parts of a rulebook's files something is different."""
    different = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    found = set()
    for path in different:
        for folder, number in _FOLDERS.items():
            if path.startswith(f"{folder}/"):
                found.add(path.split("/")[number])
    return frozenset(found)


def _placed(registry: Registry, owner: str | None) -> Iterator[tuple[str, str, str]]:
    """Topic, type and publisher wherever records may be."""
    for topic in registry.topics.values():
        for name in topic.accepts:
            for publisher in registry.record_types[name].publishers:
                if owner in (None, publisher):
                    yield topic.name, name, publisher


def _order(kind: RecordKind) -> tuple[object, ...]:
    labels = kind.labels
    words = (labels.dataregulation, labels.datacategory, labels.purposes, labels.releasableto)
    return (kind.owner, kind.topic, kind.type, labels.dataclassification, *words)


def _class_order(subject: SubjectClass) -> tuple[object, ...]:
    return (subject.agency, subject.purpose, subject.roles, subject.attributes)
