"""One record on its way through a publish call, and what the ledger says of all records of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.decide import Ruling
from broker.core.evidence import decisions, list_of, who
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.handed_out import content_digest, item_keys
from broker.core.record.admission import Candidate
from broker.errors import EntenteError
from broker.model.labels import Labels
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.record import Appended, NewRecord


@dataclass(slots=True)
class Attempt:
    """What is known of one record: `candidate` once it was understood, `ruling` once it was decided, `record` once it is
    ready to be stored, then `place` or, at any point, `refusal`.
    """

    candidate: Candidate | None
    refusal: EntenteError | None = None
    ruling: Ruling | None = None
    record: NewRecord | None = None
    place: Appended | None = None


def publish_body(
    principal: Principal, topic: str, reference: str, attempts: Sequence[Attempt], secret: EntrySecret
) -> dict[str, JsonValue]:
    """The body of a `publish` entry: a row for each record in order.

    A stored one's has a digest of its content, salted so that nobody can try out contents of little variety.
    """
    rulings = [attempt.ruling for attempt in attempts if attempt.ruling is not None]
    numbers = {ruling: number for number, ruling in enumerate(dict.fromkeys(rulings))}
    keys = item_keys(secret.secret, len(attempts))
    rows = (_row(attempt, numbers, key) for attempt, key in zip(attempts, keys, strict=True))
    return {
        "who": who(principal),
        "call": {"topic": topic, "reference": reference},
        "records": list_of(rows),
        "decisions": decisions(rulings),
        "digest": secret.as_json(),
    }


def _row(attempt: Attempt, numbers: dict[Ruling, int], key: bytes) -> JsonValue:
    row: dict[str, JsonValue] = {}
    if attempt.candidate is not None:
        event = attempt.candidate.event
        labels = _labels(attempt.candidate.labels)
        row |= {"source": event.source, "id": event.id, "type": event.type, "labels": labels}
    if attempt.ruling is not None:
        row["decision"] = numbers[attempt.ruling]
    if attempt.place is not None and attempt.record is not None:
        place = attempt.place
        row |= {"partition": place.partition, "offset": place.offset, "duplicate": place.duplicate}
        row["digest"] = content_digest(key, attempt.record.digest).hex()
    if attempt.refusal is not None:
        row["refused"] = attempt.refusal.reason.name
    return row


def _labels(labels: Labels) -> JsonValue:
    return {
        "dataclassification": labels.dataclassification,
        "dataregulation": list(labels.dataregulation),
        "datacategory": labels.datacategory,
        "purposes": list(labels.purposes),
        "releasableto": list(labels.releasableto),
    }
