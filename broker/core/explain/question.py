"""Questions that somebody makes up: what would become of such a record for such a person, may such a person subscribe?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from broker.core.questions import markings_of
from broker.core.record.envelope import source_agency
from broker.errors import EntenteError, Reason
from broker.model.audit import Publication
from broker.model.labels import Labels
from broker.model.ledger import JsonValue
from broker.model.principal import SubjectClass
from broker.model.registry import Registry


@dataclass(frozen=True, slots=True)
class RecordNamed:
    """A record that was published, wherever it is now."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class RecordKind:
    """Any record of this kind."""

    owner: str
    type: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Whether somebody of this class would be handed a record; without one, whether it may subscribe to the topic.

    revision: "" for the one in force. subject: its id, where the question is about one person (to subscribe is).
    """

    who: SubjectClass
    topic: str
    record: RecordNamed | RecordKind | None = None
    revision: str = ""
    subject: str = "somebody"

    @property
    def owner(self) -> str | None:
        """Whose records it is about, None for nobody's; of a named one its source says so, or "" if it names nobody."""
        match self.record:
            case RecordKind(owner):
                return owner
            case RecordNamed(source):
                return source_agency(source) or ""
        return None


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a named record: its type, and its labels as decisions see them."""

    type: str
    labels: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, publication: Publication) -> Found:
        """As the ledger has it."""
        return cls(publication.type, publication.labels)


def item_of(asked: MadeUp, found: Found | None, registry: Registry) -> dict[str, JsonValue]:
    """The input item, without its id. Raises EntenteError RECORD_TYPE_NOT_FOUND."""
    subject = asked.who.as_input()
    if asked.record is None:
        return _json(
            {"action": "subscribe", "subject": subject | {"id": asked.subject}, "topic": asked.topic}
        )
    if isinstance(asked.record, RecordKind):
        found = Found(asked.record.type, asked.record.labels.as_input())
    record_type = None if found is None else registry.record_types.get(found.type)
    if found is None or record_type is None:
        raise EntenteError(Reason.RECORD_TYPE_NOT_FOUND, "" if found is None else found.type)
    record = {
        "type": found.type,
        "agency": asked.owner,
        "labels": found.labels,
        "markings": markings_of(record_type),
    }
    return _json({"action": "deliver", "subject": subject, "topic": asked.topic, "record": record})


def _json(item: Mapping[str, object]) -> dict[str, JsonValue]:
    value: dict[str, JsonValue] = orjson.loads(orjson.dumps(item))
    return value
