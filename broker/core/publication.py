"""One record on its way through a publish call, and what the ledger says of all records of a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.core.decide import Ruling
from broker.core.evidence import decisions, list_of, who
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.handed_out import content_digest, item_keys
from broker.core.record.admission import Candidate, Kind
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
    labels_bytes = {kind: _labels_bytes(kind.labels) for kind in _kinds(attempts)}
    seen: set[int] = set()
    for number, attempt in enumerate(attempts):
        row_bytes = _row_bytes(attempt, labels_bytes)
        ruling = attempt.ruling
        fresh_bytes = ruling.size_bytes if ruling is not None and id(ruling) not in seen else 0
        if size_bytes + row_bytes + fresh_bytes > ENTRY_BYTES and number > begin:
            yield attempts[begin:number]
            begin, size_bytes, fresh_bytes = number, 0, 0 if ruling is None else ruling.size_bytes
            seen.clear()
        seen.add(id(ruling))
        size_bytes += row_bytes + fresh_bytes
    yield attempts[begin:]


def _kinds(attempts: Iterable[Attempt]) -> set[Kind]:
    return {attempt.candidate.kind for attempt in attempts if attempt.candidate is not None}


def _row_bytes(attempt: Attempt, labels_bytes: Mapping[Kind, int]) -> int:
    if (candidate := attempt.candidate) is None:
        return _ROW_BYTES
    event = candidate.event
    # JSON doubles some characters of names.
    return _ROW_BYTES + 2 * len(f"{event.source}{event.id}".encode()) + labels_bytes[candidate.kind]


def _labels_bytes(labels: Labels) -> int:
    """Of the words of lists; JSON writes them as they are."""
    return sum(len(word) + 3 for word in (*labels.dataregulation, *labels.purposes, *labels.releasableto))


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
    # Few are different, and to compare them costs more than to know each again.
    rulings = {id(attempt.ruling): attempt.ruling for attempt in attempts if attempt.ruling is not None}
    distinct = {ruling: number for number, ruling in enumerate(dict.fromkeys(rulings.values()))}
    numbers = {key: distinct[ruling] for key, ruling in rulings.items()}
    labels = {kind: _labels(kind.labels) for kind in _kinds(attempts)}
    keys = item_keys(secret.secret, len(attempts))
    rows = (_row(attempt, numbers, labels, key) for attempt, key in zip(attempts, keys, strict=True))
    return {
        "who": who(principal),
        "call": {"topic": topic, "reference": reference},
        "records": list_of(rows),
        "stored": list_of([_stored(attempt) for attempt in attempts]),
        "decisions": decisions(distinct, rules),
        "digest": secret.as_json(),
    }


def _stored(attempt: Attempt) -> JsonValue:
    """Where the record is; apart from its row, which its publisher may be shown: offsets count others' records too."""
    place = attempt.place
    return None if place is None else [place.partition, place.offset]


def _row(
    attempt: Attempt, numbers: Mapping[int, int], labels: Mapping[Kind, JsonValue], key: bytes
) -> JsonValue:
    """numbers: of decisions, by the id of their ruling."""
    row: dict[str, JsonValue] = {}
    candidate, place, record = attempt.candidate, attempt.place, attempt.record
    if candidate is not None:
        event = candidate.event
        row = {"source": event.source, "id": event.id, "type": event.type, "labels": labels[candidate.kind]}
    if attempt.ruling is not None:
        row["decision"] = numbers[id(attempt.ruling)]
    if place is not None and record is not None:
        row["duplicate"] = place.duplicate
        row["digest"] = content_digest(key, record.digest).hex()
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
