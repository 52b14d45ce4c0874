"""The subjects that a guarantee is about, of very many.

A pattern tells agencies apart only by their names, so all agencies that it does not name are alike: each kind of subject
(roles, attributes, purpose) is held against it once, and not once for each agency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from broker.core.rulebook.guarantees.model import Guarantee
from broker.model.principal import SubjectClass

_UNNAMED = ""
"""An agency that no pattern can name."""


class Subjects:
    """Subjects in order, each once."""

    def __init__(self, subjects: Iterable[SubjectClass]) -> None:
        self._all = tuple(dict.fromkeys(subjects))
        self._by_kind: dict[SubjectClass, list[int]] = defaultdict(list)
        self._by_agency: dict[str, list[int]] = defaultdict(list)
        for place, subject in enumerate(self._all):
            self._by_kind[replace(subject, agency=_UNNAMED)].append(place)
            self._by_agency[subject.agency].append(place)
        self._merged: tuple[Sequence[SubjectClass], Sequence[int]] = ((), ())

    def at(self, place: int) -> SubjectClass:
        """The subject at a place."""
        return self._all[place]

    def places(self, guarantee: Guarantee) -> Sequence[int]:
        """Where those stand that the guarantee is about, in order."""
        chosen = self._of_kinds(self._kinds(guarantee))
        named = {place for agency in _named(guarantee) for place in self._by_agency.get(agency, ())}
        if not named:
            return chosen
        fitting = (place for place in named if guarantee.is_about_subject(self._all[place]))
        return sorted(chain((place for place in chosen if place not in named), fitting))

    def count(self, guarantee: Guarantee) -> int:
        """How many there are."""
        kinds = self._kinds(guarantee)
        count = sum(len(self._by_kind[kind]) for kind in kinds)
        for agency in _named(guarantee):
            for place in self._by_agency.get(agency, ()):
                subject = self._all[place]
                count += guarantee.is_about_subject(subject) - (replace(subject, agency=_UNNAMED) in kinds)
        return count

    def of_agency(self, agency: str, guarantee: Guarantee) -> list[SubjectClass]:
        """Those of one agency that the guarantee is about."""
        subjects = (self._all[place] for place in self._by_agency.get(agency, ()))
        return [subject for subject in subjects if guarantee.is_about_subject(subject)]

    def _kinds(self, guarantee: Guarantee) -> dict[SubjectClass, None]:
        """The kinds of which subjects of agencies that are not named are meant."""
        return {kind: None for kind in self._by_kind if guarantee.is_about_subject(kind)}

    def _of_kinds(self, kinds: Iterable[SubjectClass]) -> Sequence[int]:
        """Their places, in order; the last answer is kept, since most guarantees speak of all kinds."""
        wanted = tuple(kinds)
        if wanted != self._merged[0]:
            self._merged = (wanted, sorted(chain.from_iterable(self._by_kind[kind] for kind in wanted)))
        return self._merged[1]


def _named(guarantee: Guarantee) -> frozenset[str]:
    """The agencies that it names."""
    patterns = (guarantee.subjects, *guarantee.exceptions)
    return frozenset(agency for pattern in patterns for agency in pattern.agencies or ())
