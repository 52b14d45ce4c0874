"""One record on its way through a publish call, and what the ledger says of all records of a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from broker.model.rulebook import Rules


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


ENTRY_BYTES = 2 << 20
"""About the most that the rows and decisions of one entry take; an append takes 8 MiB at most."""

_ROW_BYTES = 600
"""About what a row takes besides the caller's text."""


def entries_of(attempts: Sequence[Attempt]) -> Iterator[Sequence[Attempt]]:
    """The attempts of a call in parts that have an entry each: one, unless its labels are as long as may be.

    Else a call whose entry is too large would be stored and never accounted for.
    """
    begin = size_bytes = 0
    seen: set[Ruling] = set()
    for number, attempt in enumerate(attempts):
        row_bytes = _size_bytes(attempt, seen)
        if size_bytes + row_bytes > ENTRY_BYTES and number > begin:
            yield attempts[begin:number]
            begin, size_bytes = number, 0
            seen.clear()
            row_bytes = _size_bytes(attempt, seen)
        size_bytes += row_bytes
    yield attempts[begin:]


def _size_bytes(attempt: Attempt, seen: set[Ruling]) -> int:
    """Of its row, and of its decision unless that was seen before, which it is from now on."""
    size_bytes = _ROW_BYTES
    if attempt.candidate is not None:
        event, labels = attempt.candidate.event, attempt.candidate.kind.labels
        words = (*labels.dataregulation, *labels.purposes, *labels.releasableto)
        # JSON doubles some characters of names; the words of labels have none of them.
        size_bytes += 2 * len(f"{event.source}{event.id}".encode()) + sum(len(word) + 3 for word in words)
    if attempt.ruling is not None and attempt.ruling not in seen:
        seen.add(attempt.ruling)
        size_bytes += attempt.ruling.size_bytes
    return size_bytes


def publish_body(
    principal: Principal,
    topic: str,
    reference: str,
    attempts: Sequence[Attempt],
    secret: EntrySecret,
    rules: Rules,
) -> dict[str, JsonValue]:
    """The body of a `publish` entry under `rules`: a row for each record in order.

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
        "stored": list_of([_stored(attempt) for attempt in attempts]),
        "decisions": decisions(rulings, rules),
        "digest": secret.as_json(),
    }


def _stored(attempt: Attempt) -> JsonValue:
    """Where the record is; apart from its row, which its publisher may be shown: offsets count others' records too."""
    return None if attempt.place is None else [attempt.place.partition, attempt.place.offset]


def _row(attempt: Attempt, numbers: dict[Ruling, int], key: bytes) -> JsonValue:
    row: dict[str, JsonValue] = {}
    if attempt.candidate is not None:
        event = attempt.candidate.event
        labels = _labels(attempt.candidate.kind.labels)
        row |= {"source": event.source, "id": event.id, "type": event.type, "labels": labels}
    if attempt.ruling is not None:
        row["decision"] = numbers[attempt.ruling]
    if attempt.place is not None and attempt.record is not None:
        row["duplicate"] = attempt.place.duplicate
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
