"""From the shapes of data files to what they register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from broker.core.rulebook.references import UNREVIEWED
from broker.core.rulebook.shapes import (
    AdministrationShape,
    AgencyShape,
    AgreementShape,
    RecordTypeShape,
    TopicShape,
    VocabularyShape,
)
from broker.model.registry import Administration, Agency, Agreement, Issuer, RecordType, Topic, Vocabulary

_Value = TypeVar("_Value")


def agency_of(name: str, shape: AgencyShape) -> Agency:
    """One agency."""
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


def topic_of(name: str, shape: TopicShape) -> Topic:
    """One topic."""
    return Topic(
        name, shape.description, shape.steward, frozenset(shape.accepts), shape.partitions, shape.retention_s
    )


def record_type_of(name: str, owner: str, shape: RecordTypeShape) -> RecordType:
    """One record type of an owner."""
    return RecordType(
        name=name,
        owner=owner,
        description=shape.description,
        content_type=shape.content_type,
        publishers=frozenset(shape.publishers),
        fields={path: tuple(markings) for path, markings in shape.fields.items()},
        attributes={attribute: tuple(markings) for attribute, markings in shape.attributes.items()},
    )


def record_types_of(groups: Mapping[str, Mapping[str, RecordTypeShape]]) -> dict[str, RecordType]:
    """All record types by name; groups: owner -> name -> shape."""
    return {
        name: record_type_of(name, owner, shape)
        for owner, group in groups.items()
        for name, shape in group.items()
    }


def vocabulary_of(shape: VocabularyShape) -> Vocabulary:
    """The vocabulary, with what is built in."""
    return Vocabulary(
        classifications=tuple(shape.classifications),
        purposes=frozenset(shape.purposes),
        regulations=frozenset(shape.regulations),
        categories=frozenset(shape.categories),
        roles=frozenset(shape.roles),
        attributes=dict(shape.attributes),
        markings=frozenset(shape.markings) | {UNREVIEWED},
    )


def administration_of(shape: AdministrationShape) -> Administration:
    """What changing anything takes."""
    public_reasons = frozenset(shape.public_reasons)
    return Administration(
        shape.approvals.exchange, shape.approvals.agency, shape.ratify_hours, public_reasons
    )


class Agreements:
    """Makes agreements that share what is equal: of a million, few have words of their own."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}

    def of(self, name: str, owner: str, shape: AgreementShape) -> Agreement:
        """One agreement of an owner."""
        return Agreement(
            id=name,
            owner=self._one(owner),
            consumer=self._one(shape.consumer),
            topics=self._one(frozenset(shape.topics)),
            purposes=self._one(tuple(shape.purposes)),
            highest=self._one(shape.highest),
            grants=shape.grants,
            until=self._one(shape.until),
        )

    def _one(self, value: _Value) -> _Value:
        return cast(_Value, self._known.setdefault(value, value))  # a text, a set and a tuple are never equal
