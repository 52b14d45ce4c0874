"""Of very many subjects, those that a guarantee is about: the same as one by one, in the same order."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from broker.core.rulebook.guarantees import Guarantee
from broker.core.rulebook.guarantees.model import RecordPattern, SubjectPattern
from broker.core.rulebook.guarantees.subjects import Subjects
from broker.model.decision import Effect
from broker.model.principal import SubjectClass

EVERYBODY = [
    SubjectClass(agency, roles, attributes, purpose)
    for agency, roles, attributes, purpose in product(
        ("a", "b", "c", "d"),
        ((), ("analyst",), ("officer",), ("analyst", "officer")),
        ((("clearance", "red"),), (("clearance", "clear"),)),
        ("p", "q"),
    )
    if (agency, purpose) != ("d", "q")
]
WORDS = frozenset
ANY = SubjectPattern()
PLAIN = Guarantee(
    "f", 1, None, "n", "why", ANY, (), RecordPattern(), frozenset({Effect.RELEASE}), frozenset()
)

PATTERNS = {
    "everybody": PLAIN,
    "agencies": replace(PLAIN, subjects=SubjectPattern(agencies=WORDS({"a", "d", "nobody"}))),
    "roles": replace(PLAIN, subjects=SubjectPattern(roles=WORDS({"officer"}))),
    "purposes": replace(PLAIN, subjects=SubjectPattern(purposes=WORDS({"q"}))),
    "attributes": replace(PLAIN, subjects=SubjectPattern(attributes={"clearance": WORDS({"red"})})),
    "all but an agency": replace(PLAIN, exceptions=(SubjectPattern(agencies=WORDS({"b"})),)),
    "all but some of an agency": replace(
        PLAIN,
        subjects=SubjectPattern(roles=WORDS({"analyst"})),
        exceptions=(
            SubjectPattern(agencies=WORDS({"b", "c"}), purposes=WORDS({"p"})),
            SubjectPattern(roles=WORDS({"officer"}), purposes=WORDS({"q"})),
        ),
    ),
    "some of an agency, but some": replace(
        PLAIN,
        subjects=SubjectPattern(agencies=WORDS({"a", "b"}), roles=WORDS({"analyst"})),
        exceptions=(SubjectPattern(agencies=WORDS({"a"}), attributes={"clearance": WORDS({"red"})}),),
    ),
    "nobody": replace(PLAIN, exceptions=(ANY,)),
}


@pytest.mark.parametrize("guarantee", PATTERNS.values(), ids=PATTERNS.keys())
def test_they_are_the_same_as_one_by_one(guarantee: Guarantee) -> None:
    subjects = Subjects([*EVERYBODY, EVERYBODY[0]])
    meant = [subject for subject in EVERYBODY if guarantee.is_about_subject(subject)]

    for _ in range(2):  # what was found is kept for the next guarantee
        assert [subjects.at(place) for place in subjects.places(guarantee)] == meant
        assert subjects.count(guarantee) == len(meant)
    for agency in ("a", "b", "c", "d", "nobody"):
        assert subjects.of_agency(agency, guarantee) == [each for each in meant if each.agency == agency]


def test_one_guarantee_after_another() -> None:
    subjects = Subjects(EVERYBODY)
    for guarantee in (*PATTERNS.values(), *reversed(PATTERNS.values())):
        meant = [subject for subject in EVERYBODY if guarantee.is_about_subject(subject)]
        assert [subjects.at(place) for place in subjects.places(guarantee)] == meant
