"""What a file of guarantees holds, once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.rulebook.cases.model import RecordSample
from broker.core.rulebook.cases.run import show_treatment
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.model.labels import Labels
from broker.model.principal import SubjectClass

Words = frozenset[str] | None
"""Any of these; None: whatever it is."""

_PSEUDONYM = Treatment(TreatmentKind.PSEUDONYM)


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """Subjects: all that is given has to fit. roles: at least one of them."""

    agencies: Words = None
    roles: Words = None
    purposes: Words = None
    attributes: Mapping[str, frozenset[str]] | None = None

    def fits(self, subject: SubjectClass) -> bool:
        """Whether this is one of them."""
        values = dict(subject.attributes)
        return (
            (self.agencies is None or subject.agency in self.agencies)
            and (self.roles is None or not self.roles.isdisjoint(subject.roles))
            and (self.purposes is None or subject.purpose in self.purposes)
            and all(values.get(name) in words for name, words in (self.attributes or {}).items())
        )


@dataclass(frozen=True, slots=True)
class RecordPattern:
    """Records: all that is given has to fit. labels: of each, at least one of these values."""

    owners: Words = None
    topics: Words = None
    types: Words = None
    labels: Mapping[str, frozenset[str]] | None = None

    def fits_kind(self, record: RecordSample) -> bool:
        """Whether this is one of them, but for its labels."""
        return (
            (self.owners is None or record.owner in self.owners)
            and (self.topics is None or record.topic in self.topics)
            and (self.types is None or record.type in self.types)
        )

    def fits_labels(self, labels: Labels) -> bool:
        """Whether a record so labelled can be one of them."""
        given = labels.as_input()
        return all(not words.isdisjoint(_values(given[name])) for name, words in (self.labels or {}).items())


def _values(label: object) -> list[str]:
    return [str(each) for each in label] if isinstance(label, list) else [str(label)]


@dataclass(frozen=True, slots=True)
class Breach:
    """How a guarantee is broken, in words: somebody would `verb` a record, `how`."""

    verb: str
    how: str = ""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One guarantee, and where it stands.

    agency: in whose part; None for the exchange's own. exceptions: subjects whom it does not protect against.
    never: these effects must not come out. never_keep: these markings must not stay readable.
    """

    file: str
    line: int
    agency: str | None
    name: str
    why: str
    subjects: SubjectPattern
    exceptions: tuple[SubjectPattern, ...]
    records: RecordPattern
    never: frozenset[Effect]
    never_keep: frozenset[str]

    def is_about_subject(self, subject: SubjectClass) -> bool:
        """Whether it says anything of this subject."""
        return self.subjects.fits(subject) and not any(pattern.fits(subject) for pattern in self.exceptions)

    def is_about_owner(self, subject: SubjectClass, record: RecordSample) -> bool:
        """Whether the record is the subject's own, and the guarantee does not name its agency.

        Who owns a record has it anyway, so a guarantee is about everybody else, unless `agencies` says so.
        """
        return subject.agency == record.owner and self.subjects.agencies is None

    def broken_by(self, decision: Decision) -> Breach | None:
        """What of the decision must never be; None if nothing is."""
        if decision.effect in self.never:
            return Breach("be told of" if decision.effect is Effect.NOTICE else "receive")
        if decision.effect is Effect.RELEASE:
            for marking in sorted(self.never_keep):
                treatment = decision.treatments.get(marking)
                # A pseudonym can be linked, but not read; a mask that keeps characters can.
                if treatment is not None and treatment.strictness < _PSEUDONYM.strictness:
                    return Breach("receive", f" with {marking} treated as {show_treatment(treatment)}")
        return None
