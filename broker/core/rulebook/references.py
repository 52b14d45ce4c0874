"""Whether every name in a rulebook's data stands for something, and for one thing only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain

from broker.core.redact.paths import PathError, parse_path
from broker.core.rulebook.shapes import (
    AgencyShape,
    AgreementShape,
    RecordTypeShape,
    TopicShape,
    VocabularyShape,
)
from broker.model.registry import Agreement

UNREVIEWED = "unreviewed"
"""The built-in marking of what no path names; no vocabulary lists it."""

TOPICS = "data/topics/data.yaml"
VOCABULARY = "data/vocabulary/data.yaml"

_UNMARKABLE = frozenset(
    {"id", "source", "type", "specversion", "time", "datacontenttype", "dataschema", "dataclassification"}
    | {"data", "recordedtime", "authid"}
)
"""Attributes that reach every consumer, whatever is marked, or, like what the broker stamps, none."""


class References:
    """Checks that every name stands for something."""

    def __init__(
        self,
        vocabulary: VocabularyShape,
        topics: Mapping[str, TopicShape],
        agencies: Mapping[str, AgencyShape],
        types: Mapping[str, Mapping[str, RecordTypeShape]],
        administrators: Collection[str] = (),
    ) -> None:
        """administrators: the agencies that have a file of them."""
        self._vocabulary = vocabulary
        self._topics = topics
        self._agencies = agencies
        self._types = types
        self._administrators = administrators
        self._markings = {*vocabulary.markings, UNREVIEWED}

    def findings(self) -> Iterator[str]:
        """One line for each name that stands for nothing, or for two things."""
        if UNREVIEWED in self._vocabulary.markings:
            yield f"{VOCABULARY}: markings: '{UNREVIEWED}' is built in; leave it out"
        yield from self._agency_findings()
        yield from self._topic_findings()
        yield from self._type_findings()
        for name in self._administrators:
            yield from _unknown(
                f"data/administrators/{name}/data.yaml", [name], self._agencies, "registered agency"
            )

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
                f"{TOPICS}: {name}.steward", [topic.steward], self._agencies, "registered agency"
            )
            yield from _unknown(f"{TOPICS}: {name}.accepts", topic.accepts, known, "registered record type")

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

    def of_agreements(self, owner: str, group: Mapping[str, AgreementShape]) -> Iterator[str]:
        """As `findings`, for one owner's agreements."""
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

    def admits(self, owner: str, agreements: Sequence[Agreement], markings: Set[str]) -> bool:
        """Whether `of_agreements` finds nothing about what these were made of; markings: of all their treatments."""
        used: tuple[tuple[Iterable[str], Collection[str]], ...] = (
            ([owner], self._agencies),
            ({each.consumer for each in agreements}, self._agencies),
            (chain.from_iterable({each.topics for each in agreements}), self._topics),
            (chain.from_iterable({each.purposes for each in agreements}), self._vocabulary.purposes),
            ({each.highest for each in agreements}, self._vocabulary.classifications),
            (markings, self._markings),
        )
        known = all(name in words for names, words in used for name in names)
        return known and all(each.consumer != owner for each in agreements)


def _unknown(place: str, used: Iterable[str], known: Collection[str], what: str) -> Iterator[str]:
    for name in used:
        if name not in known:
            yield f"{place}: '{name}' is no {what}; add it there or correct the name"


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")
