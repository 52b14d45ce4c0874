"""From a revision's data files to the registry, or to every reason why not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from broker.core.redact.paths import PathError, parse_path
from broker.core.rulebook.shape_faults import faults_of, what_and_remedy
from broker.core.rulebook.shapes import (
    AgencyShape,
    AgreementShape,
    Name,
    RecordTypeShape,
    TopicShape,
    TypeName,
    VocabularyShape,
)
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.registry import Agency, Agreement, Issuer, RecordType, Registry, Topic, Vocabulary
from broker.model.rulebook import Revision

UNREVIEWED = "unreviewed"
"""The built-in marking of what no path names; no vocabulary lists it."""

_UNMARKABLE = frozenset(
    {"id", "source", "type", "specversion", "time", "datacontenttype", "dataschema", "dataclassification"}
    | {"data", "recordedtime", "authid"}
)
"""Attributes that reach every consumer, whatever is marked, or, like what the broker stamps, none."""

_TOPICS = "data/topics/data.yaml"
_VOCABULARY = "data/vocabulary/data.yaml"
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_TOPICS_SHAPE = TypeAdapter(dict[Name, TopicShape])
_TYPES_SHAPE = TypeAdapter(dict[TypeName, RecordTypeShape])
_AGREEMENTS_SHAPE = TypeAdapter(dict[Name, AgreementShape])
_Shape = TypeVar("_Shape")


def parse_registry(revision: Revision) -> Registry:
    """What the revision's data registers.

    Raises RulebookRefused with one line for each fault: file, key, what is wrong, what to do.
    """
    reader = _Reader(revision.files)
    vocabulary = reader.single(_VOCABULARY, TypeAdapter(VocabularyShape))
    topics = reader.single(_TOPICS, _TOPICS_SHAPE)
    agencies = reader.each("data/agencies", TypeAdapter(AgencyShape))
    types = reader.each("data/record_types", _TYPES_SHAPE)
    agreements = reader.each("data/agreements", _AGREEMENTS_SHAPE)
    reader.leftovers()
    if reader.findings or vocabulary is None or topics is None:
        raise RulebookRefused(tuple(reader.findings))
    references = _References(vocabulary, topics, agencies, types, agreements)
    if findings := tuple(references.findings()):
        raise RulebookRefused(findings)
    return Registry(
        agencies={name: _agency(name, shape) for name, shape in agencies.items()},
        topics={name: _topic(name, shape) for name, shape in topics.items()},
        record_types={
            n: _record_type(n, owner, s) for owner, group in types.items() for n, s in group.items()
        },
        agreements=tuple(
            _agreement(n, owner, s) for owner, group in agreements.items() for n, s in group.items()
        ),
        vocabulary=_vocabulary(vocabulary),
    )


class _Reader:
    """Reads data files by their shape and gathers findings."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._left = {path for path in files if path.startswith("data/")}
        self.findings: list[str] = []

    def single(self, path: str, shape: TypeAdapter[_Shape]) -> _Shape | None:
        """One file; None, with a finding, if it is missing or not of its shape."""
        self._left.discard(path)
        if path not in self._files:
            self.findings.append(f"{path}: is missing; a rulebook needs it")
            return None
        try:
            return shape.validate_python(parse_yaml(self._files[path]))
        except DataRefused as error:
            self.findings.append(f"{path}: {error}")
        except ValidationError as error:
            self.findings += (f"{path}: {line}" for line in _lines(error))
        return None

    def each(self, folder: str, shape: TypeAdapter[_Shape]) -> dict[str, _Shape]:
        """The file data.yaml of each folder below `folder`, by the folder's name."""
        found: dict[str, _Shape] = {}
        for path in sorted(self._left):
            parts = path.split("/")
            if "/".join(parts[:2]) != folder or len(parts) != 4:
                continue
            try:
                _NAME.validate_python(parts[2])
            except ValidationError:
                self.findings.append(f"{path}: '{parts[2]}' is no name of an agency; use a-z, 0-9 and '-'")
            value = self.single(path, shape)
            if value is not None:
                found[parts[2]] = value
        return found

    def leftovers(self) -> None:
        """Whatever no shape covers would reach the policy engine unchecked."""
        self.findings += (
            f"{path}: is no place for data; see the rulebook's layout" for path in sorted(self._left)
        )


def _lines(error: ValidationError) -> Iterator[str]:
    for fault in faults_of(error):
        place = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
        yield f"{place}: {'; '.join(what_and_remedy(fault))}"


class _References:
    """Checks that every name stands for something."""

    def __init__(
        self,
        vocabulary: VocabularyShape,
        topics: Mapping[str, TopicShape],
        agencies: Mapping[str, AgencyShape],
        types: Mapping[str, Mapping[str, RecordTypeShape]],
        agreements: Mapping[str, Mapping[str, AgreementShape]],
    ) -> None:
        self._vocabulary = vocabulary
        self._topics = topics
        self._agencies = agencies
        self._types = types
        self._agreements = agreements
        self._markings = {*vocabulary.markings, UNREVIEWED}

    def findings(self) -> Iterator[str]:
        """One line for each name that stands for nothing, or for two things."""
        if UNREVIEWED in self._vocabulary.markings:
            yield f"{_VOCABULARY}: markings: '{UNREVIEWED}' is built in; leave it out"
        yield from self._agency_findings()
        yield from self._topic_findings()
        yield from self._type_findings()
        yield from self._agreement_findings()

    def _agency_findings(self) -> Iterator[str]:
        issuers: dict[str, str] = {}
        for name, agency in self._agencies.items():
            file = f"data/agencies/{name}/data.yaml"
            yield from _unknown(
                f"{file}: roles", agency.roles, self._vocabulary.roles, "role of the vocabulary"
            )
            yield from _unknown(
                f"{file}: purposes", agency.purposes, self._vocabulary.purposes, "purpose of the vocabulary"
            )
            for attribute, value in agency.attributes.items():
                place = f"{file}: attributes.{attribute}"
                yield from _unknown(
                    place, [attribute], self._vocabulary.attributes, "attribute of the vocabulary"
                )
                yield from _unknown(place, [value], self._vocabulary.classifications, "classification")
            for issuer in (shape.issuer for shape in agency.issuers):
                # An issuer of two agencies would let one speak as the other (design rule 7).
                if issuer in issuers:
                    yield f"{file}: issuers: '{issuer}' is {issuers[issuer]}'s too; give each agency its own"
                issuers[issuer] = name

    def _topic_findings(self) -> Iterator[str]:
        known = {name for group in self._types.values() for name in group}
        for name, topic in self._topics.items():
            yield from _unknown(
                f"{_TOPICS}: {name}.steward", [topic.steward], self._agencies, "registered agency"
            )
            yield from _unknown(f"{_TOPICS}: {name}.accepts", topic.accepts, known, "registered record type")

    def _type_findings(self) -> Iterator[str]:
        owners: dict[str, str] = {}
        for owner, group in self._types.items():
            file = f"data/record_types/{owner}/data.yaml"
            yield from _unknown(file, [owner], self._agencies, "registered agency")
            for name, record_type in group.items():
                if name in owners:
                    yield f"{file}: {name}: is {owners[name]}'s type too; use another name"
                owners[name] = owner
                place = f"{file}: {name}"
                yield from _unknown(
                    f"{place}.publishers", record_type.publishers, self._agencies, "registered agency"
                )
                yield from self._field_findings(place, record_type)

    def _field_findings(self, place: str, record_type: RecordTypeShape) -> Iterator[str]:
        paths: set[object] = set()
        for text, markings in record_type.fields.items():
            yield from self._marking_findings(f"{place}.fields.{text}", markings)
            try:
                path = parse_path(text)
            except PathError as error:
                yield f"{place}.fields.{text}: {error}; write it as RFC 9535 names and [*]"
                continue
            if path in paths:
                yield f"{place}.fields.{text}: is the same path as another; keep one"
            paths.add(path)
        for attribute, markings in record_type.attributes.items():
            if attribute in _UNMARKABLE:
                yield f"{place}.attributes.{attribute}: cannot be marked, since every consumer or none gets it; leave it out"
            yield from self._marking_findings(f"{place}.attributes.{attribute}", markings)
        if record_type.fields and not _is_json(record_type.content_type):
            yield f"{place}.fields: only JSON can be redacted by field; leave them out or change content_type"

    def _marking_findings(self, place: str, markings: Collection[str]) -> Iterator[str]:
        if not markings:
            yield f"{place}: has no marking; name at least one"
        yield from _unknown(place, markings, self._markings, "marking of the vocabulary")

    def _agreement_findings(self) -> Iterator[str]:
        for owner, group in self._agreements.items():
            file = f"data/agreements/{owner}/data.yaml"
            yield from _unknown(file, [owner], self._agencies, "registered agency")
            for name, agreement in group.items():
                place = f"{file}: {name}"
                if agreement.consumer == owner:
                    yield f"{place}.consumer: is the owner itself; name another agency"
                checks: tuple[tuple[str, Iterable[str], Collection[str], str], ...] = (
                    ("consumer", [agreement.consumer], self._agencies, "registered agency"),
                    ("topics", agreement.topics, self._topics, "registered topic"),
                    ("purposes", agreement.purposes, self._vocabulary.purposes, "purpose of the vocabulary"),
                    ("highest", [agreement.highest], self._vocabulary.classifications, "classification"),
                    ("treatments", agreement.treatments, self._markings, "marking of the vocabulary"),
                )
                for key, used, known, what in checks:
                    yield from _unknown(f"{place}.{key}", used, known, what)


def _unknown(place: str, used: Iterable[str], known: Collection[str], what: str) -> Iterator[str]:
    for name in used:
        if name not in known:
            yield f"{place}: '{name}' is no {what}; add it there or correct the name"


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _agency(name: str, shape: AgencyShape) -> Agency:
    return Agency(
        name=name,
        title=shape.name,
        contact=shape.contact,
        issuers=tuple(Issuer(i.issuer, i.jwks_file, i.jwks_url) for i in shape.issuers),
        roles=frozenset(shape.roles),
        purposes=frozenset(shape.purposes),
        attributes=dict(shape.attributes),
        max_token_lifetime_s=shape.max_token_lifetime_s,
    )


def _topic(name: str, shape: TopicShape) -> Topic:
    return Topic(
        name, shape.description, shape.steward, frozenset(shape.accepts), shape.partitions, shape.retention_s
    )


def _record_type(name: str, owner: str, shape: RecordTypeShape) -> RecordType:
    return RecordType(
        name=name,
        owner=owner,
        description=shape.description,
        content_type=shape.content_type,
        publishers=frozenset(shape.publishers),
        fields={path: tuple(markings) for path, markings in shape.fields.items()},
        attributes={attribute: tuple(markings) for attribute, markings in shape.attributes.items()},
    )


def _agreement(name: str, owner: str, shape: AgreementShape) -> Agreement:
    return Agreement(
        id=name,
        owner=owner,
        consumer=shape.consumer,
        topics=frozenset(shape.topics),
        purposes=tuple(shape.purposes),
        highest=shape.highest,
        grants=shape.grants,
    )


def _vocabulary(shape: VocabularyShape) -> Vocabulary:
    return Vocabulary(
        classifications=tuple(shape.classifications),
        purposes=frozenset(shape.purposes),
        regulations=frozenset(shape.regulations),
        categories=frozenset(shape.categories),
        roles=frozenset(shape.roles),
        attributes=dict(shape.attributes),
        markings=frozenset(shape.markings) | {UNREVIEWED},
    )
