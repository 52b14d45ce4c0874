"""The inputs of decisions: one function for each action, so that what a decision may depend on stands in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.core.decide import Question, make_question
from broker.model.labels import Labels
from broker.model.principal import Principal, SubjectClass
from broker.model.registry import RecordType, Registry

UNREVIEWED = "unreviewed"
"""The marking of every field that no path of its type names."""


def markings_of(record_type: RecordType) -> list[str]:
    """All markings that a record of this type may carry, sorted, with `unreviewed`."""
    named = {marking for markings in record_type.fields.values() for marking in markings}
    named.update(marking for markings in record_type.attributes.values() for marking in markings)
    return sorted(named | {UNREVIEWED})


def publish_question(principal: Principal, topic: str, record_type: RecordType, labels: Labels) -> Question:
    """May this principal publish records of this label set on this topic?"""
    item = {
        "action": "publish",
        "subject": _person(principal),
        "topic": topic,
        "record": _record(record_type, principal.agency, labels),
    }
    return make_question(item, principal.agency)


def subscribe_question(principal: Principal, topic: str, purpose: str) -> Question:
    """May this principal subscribe to this topic for this purpose?"""
    subject = _person(principal) | {"purpose": purpose}
    return make_question({"action": "subscribe", "subject": subject, "topic": topic}, principal.agency)


def deliver_question(
    subject: SubjectClass, topic: str, record_type: RecordType, owner: str, labels: Labels
) -> Question:
    """What becomes of records of this label set, published by `owner`, for this class of subjects?"""
    item = {
        "action": "deliver",
        "subject": subject.as_input(),
        "topic": topic,
        "record": _record(record_type, owner, labels),
    }
    return make_question(item, owner)


def audit_question(principal: Principal, scope: str) -> Question:
    """May this principal read so much of the ledger: "exchange", "agency" or "records"?"""
    return make_question({"action": "audit", "subject": _person(principal), "scope": scope}, principal.agency)


def administer_question(
    principal: Principal,
    verb: str,
    areas: Iterable[tuple[str, str]] = (),
    author: tuple[str, str] | None = None,
    approvals: Iterable[tuple[str, str]] = (),
    about: Mapping[str, str] | None = None,
) -> Question:
    """May this principal do that? areas: (kind, owner); author, approvals: (agency, subject id)."""
    item = {
        "action": "administer",
        "subject": _person(principal),
        "verb": verb,
        "areas": [{"kind": kind, "owner": owner} for kind, owner in sorted(set(areas))],
        "author": None if author is None else _named(author),
        "approvals": [_named(each) for each in sorted(set(approvals))],
        "about": dict(about or {}),
    }
    return make_question(item, principal.agency)


def probe_labels(registry: Registry) -> Labels:
    """The least restricted label set, to ask whether anything at all may be published."""
    return Labels(dataclassification=registry.vocabulary.classifications[0])


def _person(principal: Principal) -> dict[str, object]:
    return {
        "agency": principal.agency,
        "id": principal.subject,
        "roles": list(principal.roles),
        "attributes": dict(principal.attributes),
    }


def _named(person: tuple[str, str]) -> dict[str, str]:
    return {"agency": person[0], "id": person[1]}


def _record(record_type: RecordType, agency: str, labels: Labels) -> dict[str, object]:
    return {
        "type": record_type.name,
        "agency": agency,
        "labels": labels.as_input(),
        "markings": markings_of(record_type),
    }
