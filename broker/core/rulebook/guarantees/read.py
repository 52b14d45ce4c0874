"""Reads the guarantees of a revision: `agencies/<agency>/guarantees.yaml` are an agency's, `entente/guarantees.yaml` are
the exchange's.

An agency guarantees something of its own records (`side: owner`) or of its own people (`side: consumer`), as its module
decides on these two only. The exchange may speak of all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from pydantic import TypeAdapter, ValidationError

from broker.core.rulebook.cases.samples import Fault, split_attributes
from broker.core.rulebook.findings import Finding, line_at
from broker.core.rulebook.guarantees.model import Guarantee, RecordPattern, SubjectPattern, Words
from broker.core.rulebook.guarantees.shapes import (
    GuaranteeShape,
    GuaranteesShape,
    RecordsShape,
    SubjectsShape,
)
from broker.core.rulebook.load import GUARANTEES
from broker.core.rulebook.shape_faults import shape_faults
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, lines_of, parse_yaml
from broker.model.decision import Effect
from broker.model.registry import Registry, Vocabulary
from broker.model.rulebook import Revision

_SHAPE: TypeAdapter[dict[str, GuaranteeShape]] = TypeAdapter(GuaranteesShape)


def read_guarantees(revision: Revision, registry: Registry) -> tuple[Guarantee, ...]:
    """All guarantees of the revision, by file and line.

    Raises RulebookRefused with one line for each fault: file, line, what is wrong, what to do.
    """
    findings: list[Finding] = []
    guarantees: list[Guarantee] = []
    for path in sorted(path for path in revision.files if path.endswith(f"/{GUARANTEES}")):
        guarantees += _read(path, revision.files[path], registry, findings)
    if findings:
        raise RulebookRefused(tuple(map(str, findings)))
    return tuple(guarantees)


def _read(path: str, content: bytes, registry: Registry, findings: list[Finding]) -> Iterator[Guarantee]:
    folders = path.split("/")
    agency = folders[1] if folders[0] == "agencies" else None
    if agency is not None and agency not in registry.agencies:
        what = f"'{agency}' is no registered agency"
        findings.append(Finding(path, None, what, "register it, or rename the folder"))
        return
    try:
        lines = lines_of(content)
        shapes = _SHAPE.validate_python(_with_attributes(parse_yaml(content), registry.vocabulary))
    except DataRefused as error:
        findings.append(Finding.read(f"{path}: {error}"))
        return
    except ValidationError as error:
        findings += shape_faults(path, error, lines)
        return
    for name, shape in shapes.items():
        faults = list(_faults(shape, agency, registry))
        for place, what, remedy in faults:
            named = ".".join(map(str, (name, *place)))
            findings.append(Finding(path, line_at(lines, (name, *place)), f"{named}: {what}", remedy))
        if not faults:
            yield _guarantee(path, lines[(name,)], agency, name, shape)


def _faults(shape: GuaranteeShape, agency: str | None, registry: Registry) -> Iterator[Fault]:
    if agency is None and shape.side is not None:
        yield ("side",), "the exchange has no side", "leave it out"
    if agency is not None and shape.side is None:
        remedy = "add `side: owner` for its own records, or `side: consumer` for its own people"
        yield (), "an agency guarantees something of its own", remedy
    if agency is not None and shape.records.owners is not None and shape.side != "consumer":
        yield ("records", "owners"), f"the records are {agency}'s own", "leave it out"
    if agency is not None and shape.subjects.agencies is not None and shape.side == "consumer":
        yield ("subjects", "agencies"), f"the people are {agency}'s own", "leave it out"
    yield from _unknown(("never_keep",), shape.never_keep, registry.vocabulary.markings, "marking")
    yield from _subject_faults(("subjects",), shape.subjects, registry)
    for index, subjects in enumerate(shape.except_):
        yield from _subject_faults(("except", index), subjects, registry)
    yield from _record_faults(shape.records, registry)


def _subject_faults(
    place: tuple[str | int, ...], shape: SubjectsShape, registry: Registry
) -> Iterator[Fault]:
    words = registry.vocabulary
    yield from _unknown((*place, "agencies"), shape.agencies, registry.agencies, "registered agency")
    yield from _unknown((*place, "roles"), shape.roles, words.roles, "role of the vocabulary")
    yield from _unknown((*place, "purposes"), shape.purposes, words.purposes, "purpose of the vocabulary")
    for name, values in shape.attributes.items():
        yield from _unknown((*place, name), values, words.classifications, "classification")


def _record_faults(shape: RecordsShape, registry: Registry) -> Iterator[Fault]:
    words = registry.vocabulary
    yield from _unknown(("records", "owners"), shape.owners, registry.agencies, "registered agency")
    yield from _unknown(("records", "topics"), shape.topics, registry.topics, "registered topic")
    yield from _unknown(("records", "types"), shape.types, registry.record_types, "registered record type")
    known: Mapping[str, Collection[str]] = {
        "dataclassification": words.classifications,
        "dataregulation": words.regulations,
        "datacategory": words.categories,
        "purposes": words.purposes,
        "releasableto": registry.agencies,
    }
    for label, values in shape.labels.items():
        yield from _unknown(("records", "labels", label), values, known[label], f"{label} that is known")


def _unknown(
    place: tuple[str | int, ...], given: Iterable[str] | None, known: Collection[str], what: str
) -> Iterator[Fault]:
    """A word that is nothing would protect against nothing."""
    for word in given or ():
        if word not in known:
            yield place, f"'{word}' is no {what}", "correct the name"


def _guarantee(path: str, line: int, agency: str | None, name: str, shape: GuaranteeShape) -> Guarantee:
    own = None if agency is None else frozenset({agency})
    subjects, records = _subjects(shape.subjects), _records(shape.records)
    if shape.side == "owner":
        records = RecordPattern(own, records.topics, records.types, records.labels)
    elif shape.side == "consumer":
        subjects = SubjectPattern(own, subjects.roles, subjects.purposes, subjects.attributes)
    return Guarantee(
        path,
        line,
        agency,
        name,
        shape.why,
        subjects,
        tuple(map(_subjects, shape.except_)),
        records,
        frozenset(map(Effect, shape.never)),
        frozenset(shape.never_keep),
    )


def _subjects(shape: SubjectsShape) -> SubjectPattern:
    attributes = {name: frozenset(values) for name, values in shape.attributes.items()}
    return SubjectPattern(
        _words(shape.agencies), _words(shape.roles), _words(shape.purposes), attributes or None
    )


def _records(shape: RecordsShape) -> RecordPattern:
    labels: Mapping[str, frozenset[str]] = {name: frozenset(values) for name, values in shape.labels.items()}
    return RecordPattern(_words(shape.owners), _words(shape.topics), _words(shape.types), labels or None)


def _words(given: Iterable[str] | None) -> Words:
    return None if given is None else frozenset(given)


def _with_attributes(value: object, vocabulary: Vocabulary) -> object:
    """Attributes are written beside the other keys, since the vocabulary knows their names."""
    if not isinstance(value, dict):
        return value
    return {name: _moved(member, vocabulary) for name, member in value.items()}


def _moved(guarantee: object, vocabulary: Vocabulary) -> object:
    if not isinstance(guarantee, dict):
        return guarantee
    moved = dict(guarantee)
    if isinstance(moved.get("subjects"), dict):
        moved["subjects"] = split_attributes(moved["subjects"], vocabulary)
    if isinstance(moved.get("except"), list):
        moved["except"] = [
            split_attributes(each, vocabulary) if isinstance(each, dict) else each for each in moved["except"]
        ]
    return moved
