"""Proofs for outsiders: one entry, or one subscription's or record's part of it, in a file that needs only a public key.

A receiver's part of a delivery opens its own item of `receivers`, the class and the count. What the entry says besides
(rules, places, decisions, what was considered) lies under another commitment, of which the file holds neither salt nor
content, so that it is the same whether or not anything was withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.core.audit.forms import PARTS
from broker.core.audit.opening import Cache, Opened, open_entry, parse
from broker.core.audit.proof_file import Item, ProofFile
from broker.core.audit.reading import read_entry
from broker.core.checkpoint.checkpoint import Checkpoint, unverified_checkpoint
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import NoteInvalid, SignedNote, VerifierKey
from broker.core.ledger.leaf import (
    LISTS,
    SALT_BYTES,
    SHOWN,
    EntryInvalid,
    group_of,
    item_hash,
    read_openings,
)
from broker.core.merkle.proofs import ProofInvalid, inclusion_proof, subtrees_of, verify_inclusion
from broker.model.ledger import EncodedEntry, JsonValue
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader


class ProofRefused(ValueError):
    """A proof cannot be made, or a file does not prove what it says; one line: what and why."""


@dataclass(frozen=True, slots=True)
class ReceiverPart:
    """One receiver's part of a delivery: its item of `receivers`, the class and the count, nothing else.

    subscription: "" for an unnamed one; stream: needed only where one entry names the subscriber twice.
    """

    subject: str
    subscription: str
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class RecordPart:
    """One record's row of a `publish` entry, nothing else."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class PublisherPart:
    """The publisher's own part of a `publish` entry: `call`, `who` and all rows of `records`, nothing else."""


Part = ReceiverPart | RecordPart | PublisherPart
"""What of an entry is shown, if it is not shown whole."""


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """What a proof shows. parts: the opened parts; a part of which only one item is shown holds that item alone.

    signed_by, cosigned_by: the vkeys, of the exchange's and the witnesses' that were given, that have signed the
    checkpoint. whole: whether all parts are opened.
    """

    instance: str
    index: int
    epoch: int
    kind: str
    time_ms: int
    leaf_hash: bytes
    parts: Mapping[str, JsonValue]
    whole: bool
    checkpoint: Checkpoint
    signed_by: tuple[str, ...]
    cosigned_by: tuple[str, ...]


async def prove(
    reader: LedgerReader,
    index: AuditIndex,
    instance: str,
    entry_index: int,
    part: Part | None = None,
) -> bytes:
    """The proof as a JSON file's content; the whole entry, with all its openings, if no part is chosen.

    Raises ProofRefused if the entry has no such part, has lost its openings, or no checkpoint covers it yet; LookupError,
    LedgerRefused, StorageUnavailable.
    """
    encoded = await read_entry(reader, index, instance, entry_index)
    try:
        entry = open_entry(encoded.leaf, encoded.openings, Cache())
    except EntryInvalid as error:
        raise ProofRefused(f"entry {entry_index} is not what it was: {error}; verify the ledger") from error
    if entry.taken is None:
        raise ProofRefused(f"the openings of entry {entry_index} were erased; what it said cannot be shown")
    items = () if part is None else _items(entry, encoded, part)
    stored = await index.checkpoint_covering(instance, entry_index)
    if stored is None:
        raise ProofRefused(f"no checkpoint covers entry {entry_index} yet; try again after the next one")
    size = unverified_checkpoint(stored.note).size
    path = await index.inclusion_proof(instance, entry_index, size)
    whole = encoded.openings if part is None else None
    return ProofFile(encoded.leaf, tuple(path), stored.note, whole, items).encode()


def check(
    document: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()
) -> CheckedProof:
    """Check a proof with nothing but public keys; raises ProofRefused, also for anything in it that proves nothing.

    Without keys it shows only that the file fits together. With keys one of them must have signed the checkpoint, and with
    those of witnesses one of them must have cosigned it: what an exchange shows to one person only, no witness saw.
    """
    try:
        proof = ProofFile.read(document)
        entry = open_entry(proof.leaf, proof.openings or b"", Cache())
        note = SignedNote.parse(proof.checkpoint)
        checkpoint = Checkpoint.parse(note.text)
        # 1. The leaf is in the tree, at the place that it names.
        verify_inclusion(entry.leaf_hash, entry.index, checkpoint.size, proof.path, checkpoint.root)
        if checkpoint.origin.rpartition("/")[2] != entry.instance:
            raise ProofRefused("the checkpoint is another instance's than the entry")
        # 2. What is shown is what the leaf commits to.
        parts = _check_parts(entry, proof)
        # 3. Somebody who is trusted says that the tree is the ledger's.
        signed_by = tuple(key.text() for key in keys if note.is_signed_by(key.named(checkpoint.origin)))
        cosigned_by = tuple(key.text() for key in witnesses if cosignature_time_s(note, key) is not None)
    except ProofRefused:
        raise
    except (EntryInvalid, NoteInvalid, ProofInvalid, ValueError) as error:
        raise ProofRefused(f"it does not prove what it says: {error}") from error
    if keys and not signed_by:
        raise ProofRefused("its checkpoint is signed by none of the keys that were given")
    if witnesses and not cosigned_by:
        raise ProofRefused("its checkpoint is cosigned by none of the witnesses whose keys were given")
    return CheckedProof(
        instance=entry.instance,
        index=entry.index,
        epoch=entry.epoch,
        kind=entry.kind,
        time_ms=entry.time_ms,
        leaf_hash=entry.leaf_hash,
        parts=parts,
        whole=proof.openings is not None,
        checkpoint=checkpoint,
        signed_by=signed_by,
        cosigned_by=cosigned_by,
    )


_OPENED = {"delivery": ("receivers", SHOWN), "publish": ("records",)}
"""By kind the commitments that a part's proof opens, in order; of a list part one item."""


def _items(entry: Opened, encoded: EncodedEntry, part: Part) -> tuple[Item, ...]:
    kind, wanted = ("delivery", "receivers") if isinstance(part, ReceiverPart) else ("publish", "records")
    if entry.kind != kind:
        raise ProofRefused(f"entry {entry.index} is a {entry.kind} entry and has no {wanted}")
    groups = read_openings(encoded.openings).groups()
    if isinstance(part, PublisherPart):
        rows, own = groups[wanted], groups[SHOWN]
        return (*_items_of(wanted, rows, range(len(rows))), *_items_of(SHOWN, own, (0,)))
    number = _find(entry.value(wanted), _matching(part), entry.index)
    return tuple(
        item
        for name in _OPENED[kind]
        for item in _items_of(name, groups[name], (number if name in LISTS else 0,))
    )


def _matching(part: ReceiverPart | RecordPart) -> Callable[[dict[str, Any]], bool]:
    if isinstance(part, RecordPart):
        return lambda row: (row.get("source"), row.get("id")) == (part.source, part.id)
    return lambda row: (
        (row["subject"], row["subscription"]) == (part.subject, part.subscription)
        and part.stream in (None, row["stream"])
    )


def _find(rows: list[dict[str, Any]], matches: Callable[[dict[str, Any]], bool], index: int) -> int:
    found = [number for number, row in enumerate(rows) if matches(row)]
    if not found:
        raise ProofRefused(f"entry {index} does not name that")
    if len(found) > 1:
        raise ProofRefused(f"entry {index} names that {len(found)} times; say which stream")
    return found[0]


def _items_of(group: str, openings: list[tuple[bytes, bytes]], numbers: Sequence[int]) -> list[Item]:
    """Those items of all that a commitment is over, each with its path."""
    subtree = subtrees_of([item_hash(*each) for each in openings])
    count = len(openings)
    items = []
    for n in numbers:
        salt, text = openings[n]
        items.append(Item(group, n, count, salt, text, tuple(inclusion_proof(n, count, subtree))))
    return items


def _check_parts(entry: Opened, proof: ProofFile) -> dict[str, JsonValue]:
    if entry.taken is not None:
        return {name: entry.value(name) for name in PARTS[entry.kind]}
    names = tuple(item.part for item in proof.items)
    if entry.kind == "publish" and names[-1:] == (SHOWN,):
        return _check_publisher(entry, proof.items)
    if names != _OPENED.get(entry.kind):
        raise ProofRefused("it does not open exactly one receiver's, one record's or the publisher's part")
    return {name: value for item in proof.items for name, value in _check_item(entry, item).items()}


def _check_publisher(entry: Opened, items: Sequence[Item]) -> dict[str, JsonValue]:
    *rows, own = items
    places = [(item.part, item.number, item.count) for item in rows]
    if not rows or places != [("records", number, len(rows)) for number in range(len(rows))]:
        raise ProofRefused("it does not open all rows of the publisher's part")
    return {**_check_item(entry, own), "records": [_check_item(entry, row)["records"] for row in rows]}


def _check_item(entry: Opened, item: Item) -> dict[str, JsonValue]:
    """The parts that it opens."""
    if len(item.salt) != SALT_BYTES or (item.part not in LISTS and item.count != 1):
        raise ProofRefused(f"what it opens as '{item.part}' is not in its form")
    committed = bytes.fromhex(entry.commitments[item.part])
    hashed = item_hash(item.salt, item.content)
    verify_inclusion(hashed, item.number, item.count, item.path, committed)
    shown = [parse(opening) for opening in item.content.split(b"\t")]
    if [each[0] for each in shown if isinstance(each, list) and len(each) == 2] != _parts_of(
        item.part, entry.kind
    ):
        raise ProofRefused(f"what it opens as '{item.part}' is not in its form")
    return dict(shown)


def _parts_of(group: str, kind: str) -> list[str]:
    return [name for name in PARTS[kind] if group_of(name) == group]
