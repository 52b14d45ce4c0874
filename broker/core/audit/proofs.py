"""Proofs for outsiders: one entry, or one subscription's or record's part of it, in a file that needs only a public key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.note import VerifierKey
from broker.model.ledger import JsonValue
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
    """The publisher's own part of a `publish` entry: `who`, `call` and all rows of `records`, nothing else."""


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """What a proof shows. parts: the opened parts; a part of which only one item is shown holds that item alone.

    signed_by: the vkeys, of those that were given, that have signed the checkpoint. whole: whether all parts are opened.
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


async def prove(
    reader: LedgerReader,
    index: AuditIndex,
    instance: str,
    entry_index: int,
    part: ReceiverPart | RecordPart | PublisherPart | None = None,
) -> bytes:
    """The proof as a JSON file's content; the whole entry, with all its openings, if no part is chosen.

    Raises ProofRefused if the entry has no such part, has lost its openings, or no checkpoint covers it yet; LookupError,
    LedgerRefused, StorageUnavailable.
    """
    raise NotImplementedError


def check(document: bytes, keys: Sequence[VerifierKey]) -> CheckedProof:
    """Check a proof with nothing but public keys; raises ProofRefused, also for anything in it that proves nothing."""
    raise NotImplementedError
