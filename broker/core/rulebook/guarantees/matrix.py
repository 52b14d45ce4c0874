"""Who could ask for what: each agency, role, purpose and clearance, with each topic, type, owner and label set.

Subjects are those whom a token can make. Records carry no label but the classification, or one label of the vocabulary,
or those that occur in cases, each with every classification, and name the subject's agency as a recipient or nobody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from broker.core.rulebook.cases.model import Cases, RecordSample
from broker.core.rulebook.guarantees.model import Guarantee
from broker.core.rulebook.guarantees.subjects import Subjects
from broker.core.rulebook.spread import spread
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Agency, Registry, Vocabulary

Combination = tuple[SubjectClass, RecordSample]

_UNLABELLED = Labels("")


@dataclass(frozen=True, slots=True)
class _Blank:
    """A label set that is filled in for a subject: its agency is named, or its purpose is stated, or neither."""

    labels: Labels
    named: bool = False
    for_purpose: bool = False

    def filled(self, subject: SubjectClass) -> Labels:
        labels = replace(self.labels, releasableto=(subject.agency,)) if self.named else self.labels
        return replace(labels, purposes=(subject.purpose,)) if self.for_purpose else labels


@dataclass(frozen=True, slots=True)
class Reach:
    """What a guarantee is held against; `complete`: all that is within reach."""

    combinations: tuple[Combination, ...]
    complete: bool


class Matrix:
    """All combinations of one rulebook."""

    def __init__(self, registry: Registry, cases: Cases) -> None:
        self._subjects = Subjects(_subjects(registry, cases))
        self._records = tuple(_records(registry))
        self._by_owner: dict[str, list[RecordSample]] = defaultdict(list)
        for record in self._records:
            self._by_owner[record.owner].append(record)
        self._blanks = tuple(dict.fromkeys(_blanks(registry.vocabulary, cases)))
        self._consumers: dict[str, set[str]] = defaultdict(set)
        for agreement in registry.agreements:
            self._consumers[agreement.owner].add(agreement.consumer)

    def about(self, guarantee: Guarantee, most: int) -> Reach:
        """Up to `most` combinations that the guarantee is about, each once.

        If there are more, they are spread evenly, and three quarters of them are of agencies that have an agreement with
        the record's owner, since there only the details of the rules stand between the two.
        """
        subjects, records = self._subjects.places(guarantee), self._records_of(guarantee)
        blanks = self._blanks_of(guarantee)
        possible = len(subjects) * len(records) * len(blanks)
        found: dict[Combination, None] = {}
        if possible > most:
            near = self._near(guarantee, records, most)
            for index in spread(len(near) * len(blanks), most * 3 // 4):
                subject, record = near[index // len(blanks)]
                _add(found, guarantee, subject, record, blanks[index % len(blanks)])
        for index in spread(possible, most - len(found)):
            pair, blank = divmod(index, len(blanks))
            subject = self._subjects.at(subjects[pair // len(records)])
            _add(found, guarantee, subject, records[pair % len(records)], blanks[blank])
        return Reach(tuple(found), possible <= most)

    def size(self, guarantee: Guarantee) -> int:
        """How many combinations are within reach, at most."""
        kinds = len(self._records_of(guarantee)) * len(self._blanks_of(guarantee))
        return self._subjects.count(guarantee) * kinds

    def _records_of(self, guarantee: Guarantee) -> Sequence[RecordSample]:
        owners = guarantee.records.owners
        if owners is None:
            records: Iterable[RecordSample] = self._records
        else:
            records = (record for owner in sorted(owners) for record in self._by_owner.get(owner, ()))
        return [record for record in records if guarantee.records.fits_kind(record)]

    def _blanks_of(self, guarantee: Guarantee) -> Sequence[_Blank]:
        return [blank for blank in self._blanks if _may_fit(guarantee, blank)]

    def _near(self, guarantee: Guarantee, records: Sequence[RecordSample], most: int) -> list[Combination]:
        """Subjects with records of owners that have an agreement with the subject's agency."""
        subjects: dict[str, list[SubjectClass]] = {}
        granted: list[tuple[str, RecordSample]] = []
        for place in spread(len(records), most):
            for agency in sorted(self._consumers.get(records[place].owner, ())):
                if agency not in subjects:
                    subjects[agency] = self._subjects.of_agency(agency, guarantee)
                if subjects[agency]:
                    granted.append((agency, records[place]))
        chosen = (granted[index] for index in spread(len(granted), most))
        return [(subject, record) for agency, record in chosen for subject in subjects[agency]]


def _add(
    found: dict[Combination, None],
    guarantee: Guarantee,
    subject: SubjectClass,
    record: RecordSample,
    blank: _Blank,
) -> None:
    labels = blank.filled(subject)
    if guarantee.records.fits_labels(labels) and not guarantee.is_about_owner(subject, record):
        found[subject, replace(record, labels=labels)] = None


def _may_fit(guarantee: Guarantee, blank: _Blank) -> bool:
    """Whether the labels that do not depend on the subject are those of a record that the guarantee is about."""
    fixed = {"dataclassification", "datacategory", "dataregulation"}
    wanted = guarantee.records.labels or {}
    pattern = replace(guarantee.records, labels={name: wanted[name] for name in wanted if name in fixed})
    return pattern.fits_labels(blank.labels)


def _subjects(registry: Registry, cases: Cases) -> Iterator[SubjectClass]:
    """Those that cases name, and the classes of each agency."""
    for sample in cases.principals:
        if sample.subject.agency in registry.agencies:
            yield sample.subject
    for name in sorted(registry.agencies):
        yield from classes_of(registry.agencies[name], registry.vocabulary)


def classes_of(agency: Agency, words: Vocabulary) -> Iterator[SubjectClass]:
    """Of one agency: every role alone, and all of them; every purpose; the highest clearance, and the lowest."""
    roles = [*((role,) for role in sorted(agency.roles)), tuple(sorted(agency.roles))]
    attributes = _attributes(agency, words)
    for purpose, held, pairs in product(sorted(agency.purposes), dict.fromkeys(roles), attributes):
        yield SubjectClass(agency.name, held, pairs, purpose)


def _attributes(agency: Agency, words: Vocabulary) -> list[tuple[tuple[str, str], ...]]:
    ceiling = tuple(sorted(agency.attributes.items()))
    lowest = tuple((name, words.classifications[0]) for name, _ in ceiling)
    return list(dict.fromkeys((ceiling, lowest)))


def _records(registry: Registry) -> Iterator[RecordSample]:
    """Each type on each topic that accepts it, of each publisher; without labels."""
    for topic in sorted(registry.topics):
        for name in sorted(registry.topics[topic].accepts):
            for owner in sorted(registry.record_types[name].publishers):
                yield RecordSample("", topic, name, owner, _UNLABELLED)


def _blanks(words: Vocabulary, cases: Cases) -> Iterator[_Blank]:
    whole = [_UNLABELLED, *(sample.labels for sample in cases.records)]
    extras = [replace(_UNLABELLED, dataregulation=(word,)) for word in sorted(words.regulations)]
    extras += [replace(_UNLABELLED, datacategory=word) for word in sorted(words.categories)]
    for classification in words.classifications:
        for labels in whole:
            yield _Blank(replace(labels, dataclassification=classification))
            yield _Blank(replace(labels, dataclassification=classification), named=True)
        for labels in extras:
            yield _Blank(replace(labels, dataclassification=classification), named=True)
        yield _Blank(Labels(classification), named=True, for_purpose=True)
