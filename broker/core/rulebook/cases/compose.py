"""From the shape of a case to the case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.core.rulebook.cases.item import make_item
from broker.core.rulebook.cases.model import Case, Expectation, RecordSample, Sample
from broker.core.rulebook.cases.samples import Fault
from broker.core.rulebook.cases.shapes import CaseShape
from broker.core.rulebook.shapes import TreatmentShape
from broker.model.decision import Effect, Treatment, TreatmentKind
from broker.model.registry import Registry

_OF_A_CLASS = frozenset({"agency", "roles", "purpose"})
_OF_A_PERSON = _OF_A_CLASS | {"id"}
"""What may be different about a principal; a class, for which records are decided, has no subject id."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a case may name, and whether it may ask for a time."""

    principals: Mapping[str, Sample]
    records: Mapping[str, RecordSample]
    registry: Registry
    time_dependent: bool


def case_faults(shape: CaseShape, known: Known, agency: str | None) -> Iterator[Fault]:
    """Where the case names what is not there, or, in an agency's folder, what is not that agency's."""
    if shape.who not in known.principals:
        yield ("who",), f"'{shape.who}' is none of the principals", "correct it, or add it to principals.yaml"
    for key, named in (("author", shape.author), *(("approvals", each) for each in shape.approvals)):
        if named is not None and named not in known.principals:
            yield (key,), f"'{named}' is none of the principals", "correct it, or add it to principals.yaml"
    if shape.record is not None and shape.record not in known.records:
        yield ("record",), f"'{shape.record}' is none of the records", "correct it, or add it to records.yaml"
    words = known.registry.vocabulary
    for key in shape.as_:
        if key not in {*(_OF_A_CLASS if shape.action == "deliver" else _OF_A_PERSON), *words.attributes}:
            yield ("as", key), f"'{key}' is nothing that a principal has", "correct the name"
    for marking in shape.treatments or ():
        if marking not in words.markings:
            yield ("treatments", marking), f"'{marking}' is no marking of the vocabulary", "correct the name"
    if (shape.at is None) == known.time_dependent:
        remedy = "add `at`" if known.time_dependent else "remove `at`, or change the manifest"
        what = f"manifest.yaml says `time_dependent: {str(known.time_dependent).lower()}`"
        yield ("at",) if shape.at else (), what, remedy
    if agency is not None and not _is_about(shape, known, agency):
        what = f"is not about {agency}'s people or records, and this folder is {agency}'s"
        yield (), what, "move it to cases/"


def _is_about(shape: CaseShape, known: Known, agency: str) -> bool:
    """Whether an agency may know the answer: what others grant each other is none of its business."""
    who, record = known.principals.get(shape.who), known.records.get(shape.record or "")
    if who is not None and shape.as_.get("agency", who.subject.agency) == agency:
        return True
    if record is not None:
        return (shape.owner or record.owner) == agency
    topic = known.registry.topics.get(shape.topic or "")
    return shape.action == "subscribe" and topic is not None and topic.steward == agency


def case_of(shape: CaseShape, known: Known, *, file: str, line: int, number: int, agency: str | None) -> Case:
    """The file's case `number`, which has no faults. Raises NotInItem if it leaves out what is not there."""
    record = known.records.get(shape.record or "")
    item = make_item(shape, known.principals, record, known.registry)
    about = shape.record or shape.topic or shape.scope or shape.verb
    title = f"{shape.who} {shape.action} {about}"
    item["id"] = f"{file}#{number}"
    return Case(file, line, agency, title, item, _expectation(shape, known))


def _expectation(shape: CaseShape, known: Known) -> Expectation:
    """Nothing is said of treatments of what is not released: there are none."""
    treatments: Mapping[str, Treatment] | None = None if shape.effect == "release" else {}
    if shape.treatments is not None:
        treatments = {marking: _treatment(value) for marking, value in shape.treatments.items()}
    if shape.all is not None:
        whole = make_item(
            shape.model_copy(update={"without": []}),
            known.principals,
            known.records[shape.record or ""],
            known.registry,
        )
        record = whole["record"]
        markings = record["markings"] if isinstance(record, dict) else ()
        treatments = dict.fromkeys(markings, _treatment(shape.all))
    return Expectation(
        Effect(shape.effect),
        treatments,
        None if shape.obligations is None else tuple(shape.obligations),
        tuple(shape.reasons),
        shape.not_before,
        shape.valid_until,
    )


def _treatment(value: str | TreatmentShape) -> Treatment:
    if isinstance(value, str):
        return Treatment(TreatmentKind(value))
    return Treatment(TreatmentKind(value.kind), value.keep_first, value.keep_last)
