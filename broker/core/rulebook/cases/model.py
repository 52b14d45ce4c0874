"""What the files of cases hold, once they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.model.decision import Effect, Treatment
from broker.model.labels import Labels
from broker.model.principal import SubjectClass


@dataclass(frozen=True, slots=True)
class Sample:
    """A principal that cases name; `subject` has the purpose "" where it states none. id: the subject id."""

    name: str
    subject: SubjectClass
    id: str


@dataclass(frozen=True, slots=True)
class RecordSample:
    """A record that cases name: a label set of one owner and type on one topic."""

    name: str
    topic: str
    type: str
    owner: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a case pins down of an output; None is left open.

    reasons: each of these is given. The others are compared whole. Times are as the rulebook writes them.
    """

    effect: Effect
    treatments: Mapping[str, Treatment] | None
    obligations: tuple[str, ...] | None
    reasons: tuple[str, ...]
    not_before: str | None
    valid_until: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One case: where it stands, the input item that it stands for, and what it expects of the output.

    agency: in whose folder it stands; None for the exchange's own.
    """

    file: str
    line: int
    agency: str | None
    title: str
    item: Mapping[str, object]
    expected: Expectation


@dataclass(frozen=True, slots=True)
class Cases:
    """All cases of a rulebook, and what occurs in them. times: those at which a case asks, if it is time-dependent."""

    cases: tuple[Case, ...]
    principals: tuple[Sample, ...]
    records: tuple[RecordSample, ...]
    times: tuple[str, ...]
