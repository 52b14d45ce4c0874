"""The principals and records that cases name, held against the registry.

A misspelt agency or label would let every case pass that expects nothing. So these are as the exchange could meet them, and
only what a case changes in them may be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from broker.core.rulebook.cases.model import RecordSample, Sample
from broker.core.rulebook.cases.shapes import ATTRIBUTES, LabelsShape, PrincipalShape, RecordShape
from broker.model.data_file import Place
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Agency, Registry, Vocabulary

Fault = tuple[Place, str, str]
"""(place inside the member, what is wrong, what to do)"""


def split_attributes(member: Mapping[str, object], words: Vocabulary) -> dict[str, object]:
    """What describes a subject, with the attributes that the vocabulary names moved under one key."""
    own = {key: value for key, value in member.items() if key not in words.attributes}
    return own | {ATTRIBUTES: {key: value for key, value in member.items() if key in words.attributes}}


def principal_of(name: str, shape: PrincipalShape) -> Sample:
    """The principal as decisions see it."""
    roles, attributes = tuple(sorted(shape.roles)), tuple(sorted(shape.attributes.items()))
    return Sample(name, SubjectClass(shape.agency, roles, attributes, shape.purpose or ""), shape.id or name)


def record_of(name: str, shape: RecordShape) -> RecordSample:
    """The record as decisions see it, but for its markings, which its type has."""
    given = shape.labels
    labels = Labels(
        given.dataclassification,
        tuple(sorted(given.dataregulation)),
        given.datacategory,
        tuple(sorted(given.purposes)),
        tuple(sorted(given.releasableto)),
    )
    return RecordSample(name, shape.topic, shape.type, shape.owner, labels)


def principal_faults(shape: PrincipalShape, registry: Registry) -> Iterator[Fault]:
    """Where no token could make somebody this principal."""
    agency = registry.agencies.get(shape.agency)
    if shape.unregistered:
        if agency is not None:
            yield ("unregistered",), f"'{shape.agency}' is a registered agency", "leave this key out"
    elif agency is None:
        what = f"'{shape.agency}' is no registered agency"
        yield ("agency",), what, "correct it, or say `unregistered: true`"
    else:
        yield from _registration_faults(shape, agency, registry.vocabulary)


def _registration_faults(shape: PrincipalShape, agency: Agency, words: Vocabulary) -> Iterator[Fault]:
    remedy = f"correct it, or add it to data/agencies/{agency.name}/data.yaml"
    purposes = [] if shape.purpose is None else [shape.purpose]
    yield from _unknown(("roles",), shape.roles, agency.roles, f"role of {agency.name}", remedy)
    yield from _unknown(("purpose",), purposes, agency.purposes, f"purpose of {agency.name}", remedy)
    for attribute, value in shape.attributes.items():
        reached = _up_to(agency.attributes.get(attribute), words.classifications)
        what = f"classification that a token of {agency.name} may assert"
        yield from _unknown(
            (attribute,), [value], reached, what, "correct it, or change it in a case by `as`"
        )


def _up_to(ceiling: str | None, classifications: tuple[str, ...]) -> tuple[str, ...]:
    if ceiling not in classifications:
        return ()
    return classifications[: classifications.index(ceiling) + 1]


def record_faults(shape: RecordShape, registry: Registry) -> Iterator[Fault]:
    """Where no publisher could publish this record."""
    topic, record_type = registry.topics.get(shape.topic), registry.record_types.get(shape.type)
    remedy = "correct the name, or register it"
    yield from _unknown(("topic",), [shape.topic], registry.topics, "registered topic", remedy)
    yield from _unknown(("type",), [shape.type], registry.record_types, "registered record type", remedy)
    if topic is not None and record_type is not None:
        remedy = "correct one of them"
        yield from _unknown(
            ("type",), [shape.type], topic.accepts, f"type that {shape.topic} accepts", remedy
        )
        publishers = record_type.publishers
        yield from _unknown(("owner",), [shape.owner], publishers, f"publisher of {shape.type}", remedy)
    yield from _label_faults(shape.labels, registry.vocabulary)


def _label_faults(labels: LabelsShape, words: Vocabulary) -> Iterator[Fault]:
    remedy = "correct it, or change it in a case by `labels`"
    checks: tuple[tuple[str, Iterable[str], Collection[str]], ...] = (
        ("dataclassification", [labels.dataclassification], words.classifications),
        ("dataregulation", labels.dataregulation, words.regulations),
        ("datacategory", [labels.datacategory] if labels.datacategory else [], words.categories),
        ("purposes", labels.purposes, words.purposes),
    )
    for label, given, known in checks:
        yield from _unknown(("labels", label), given, known, f"{label} of the vocabulary", remedy)


def _unknown(
    place: Place, given: Iterable[str], known: Collection[str], what: str, remedy: str
) -> Iterator[Fault]:
    for word in given:
        if word not in known:
            yield place, f"'{word}' is no {what}", remedy
