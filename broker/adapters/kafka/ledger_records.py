"""The records of the ledger's topics.

Topic `<prefix>.ledger`: each partition holds one instance's log; the key of each of its records is the instance's name. An
entry's value is its leaf, a newline and its openings; a claim's is `{"claim":{"epoch":…,"nonce":…}}`. Who loses the race for
an empty partition leaves a claim behind under its own name, which counts for nothing.

Topic `<prefix>.ledger-checkpoints`: key instance, value `{"frontier":[hex…],"note":text}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from broker.adapters.kafka.outbox import Message
from broker.adapters.kafka.span import Entry
from broker.core.ledger.heading import read_heading
from broker.errors import StorageUnavailable
from broker.model.ledger import EncodedEntry, ReadPoint, StoredCheckpoint

_CLAIM = b'{"claim":'


@dataclass(frozen=True, slots=True)
class Claim:
    """From this record on entries of older epochs are void; the nonce tells two that claim one epoch apart."""

    epoch: int
    nonce: str


def entry_message(instance: str, entry: EncodedEntry) -> Message:
    """Its Kafka time is the entry's, by which retention counts. Raises ValueError for a leaf without heading."""
    heading = read_heading(entry.leaf)
    if heading is None:
        raise ValueError("an entry's leaf has no heading")
    return Message(instance.encode(), entry.leaf + b"\n" + entry.openings, heading.time_ms)


def claim_message(instance: str, claim: Claim) -> Message:
    """A claim as it is stored, at the producer's present time."""
    content = {"claim": {"epoch": claim.epoch, "nonce": claim.nonce}}
    return Message(instance.encode(), orjson.dumps(content), None)


def read_claim(value: bytes | None) -> Claim | None:
    """The claim that a record's value is, or None."""
    if value is None or not value.startswith(_CLAIM):
        return None
    try:
        content = orjson.loads(value)["claim"]
        epoch, nonce = content["epoch"], content["nonce"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return Claim(epoch, nonce) if type(epoch) is int and isinstance(nonce, str) else None


class Fold:
    """Reads an instance's records in order and leaves out what is void."""

    def __init__(self, instance: str, point: ReadPoint) -> None:
        self._key = instance.encode()
        self._epoch = point.epoch
        self._index = point.index
        self._store = point.store

    @property
    def point(self) -> ReadPoint:
        """Where reading goes on."""
        return ReadPoint(self._store, self._epoch, self._index)

    def take(self, records: Sequence[Entry]) -> tuple[EncodedEntry, ...]:
        """The entries among the next records. What is no entry at all comes out as it is, for the caller to refuse."""
        found = []
        for record in records:
            self._store = record.offset + 1
            if record.key != self._key:
                continue
            claim = read_claim(record.value)
            if claim is not None:
                self._epoch = max(self._epoch, claim.epoch)
                continue
            leaf, _, openings = (record.value or b"").partition(b"\n")
            heading = read_heading(leaf)
            if heading is not None:
                if heading.epoch < self._epoch:
                    continue
                # Where retention took the claim away, its first entry says the same.
                self._epoch, self._index = heading.epoch, heading.index + 1
            found.append(EncodedEntry(leaf, openings))
        return tuple(found)


def by_owner(owners: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Each instance's partition. Raises StorageUnavailable if one has two: whichever was read would hide the other."""
    found: dict[str, int] = {}
    for partition, name in owners:
        if name in found:
            raise StorageUnavailable(
                f"partitions {found[name]} and {partition} of the ledger both hold entries of '{name[:40]}';"
                " somebody copied one there: ask the operator"
            )
        found[name] = partition
    return found


def checkpoint_message(instance: str, checkpoint: StoredCheckpoint) -> Message:
    """Raises ValueError for a note that is not UTF-8."""
    content = {"frontier": [each.hex() for each in checkpoint.frontier], "note": checkpoint.note.decode()}
    return Message(instance.encode(), orjson.dumps(content), None)


def read_checkpoint(value: bytes | None) -> StoredCheckpoint:
    """A checkpoint; what is none comes out as a note that nobody signed, for the caller to refuse."""
    try:
        content = orjson.loads(value or b"")
        frontier = tuple(bytes.fromhex(each) for each in content["frontier"])
        return StoredCheckpoint(content["note"].encode(), frontier)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        return StoredCheckpoint(value or b"", ())
