"""Ledgers in pieces that can be read and examined anywhere, also in another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from broker.core.audit.segments import Segment
from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.checkpoint.note import NoteInvalid
from broker.core.ledger.leaf import EntryInvalid, read_leaf
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerReader

BLOCK = 256
"""Pieces begin at multiples of this (but for the first), so that blocks of the index's tree lie within one piece."""

PIECE_ENTRIES = 4_096
PIECE_BYTES = 8 << 20


class Piece(Protocol):
    """Some consecutive entries of one instance; can be pickled."""

    @property
    def instance(self) -> str:
        """Whose they are."""

    @property
    def begin(self) -> int:
        """The index of the first."""

    @property
    def count(self) -> int:
        """How many they are."""

    def lines(self) -> list[tuple[bytes, bytes]]:
        """Leaf and openings of each, read now, blocking. Raises StorageUnavailable."""


@runtime_checkable
class PieceReader(Protocol):
    """A reader whose pieces read themselves, and that may hold a part of a ledger only."""

    def base(self, instance: str) -> CompactTree:
        """The tree of what lies before the first entry that is here."""

    def tail(self, instance: str) -> Segment | None:
        """What lies after the last entry that is here, up to a checkpoint; None if nothing does, or nobody knows."""

    def is_cut(self, instance: str) -> bool:
        """Whether entries after the last one were left out on purpose."""

    def count(self, instance: str) -> int:
        """How many entries are here."""

    def pieces(self, instance: str) -> Iterator[Piece]:
        """All entries in order."""


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """A piece of entries that were read already."""

    instance: str
    begin: int
    held: tuple[EncodedEntry, ...]

    @property
    def count(self) -> int:
        """See Piece."""
        return len(self.held)

    def lines(self) -> list[tuple[bytes, bytes]]:
        """See Piece."""
        return [(entry.leaf, entry.openings) for entry in self.held]


async def pieces_of(reader: LedgerReader, instance: str) -> AsyncIterator[Piece]:
    """The pieces of any ledger from its first entry that is kept."""
    begin, held, size = -1, list[EncodedEntry](), 0
    async for read in reader.read(instance, ReadPoint()):
        for entry in read.entries:
            if begin < 0:
                begin = first_index(entry)
            held.append(entry)
            size += len(entry.leaf) + len(entry.openings)
            if (begin + len(held)) % BLOCK == 0 and (len(held) >= PIECE_ENTRIES or size >= PIECE_BYTES):
                yield HeldPiece(instance, begin, tuple(held))
                begin, held, size = begin + len(held), [], 0
    if held:
        yield HeldPiece(instance, begin, tuple(held))


async def base_of(reader: LedgerReader, instance: str, first: EncodedEntry) -> CompactTree:
    """The tree from which a ledger's entries can be followed, whose first entry that is kept is this one.

    Empty if that is entry 0. After retention it is that of the first checkpoint at or after it; entries before that are
    left out, since nothing proves their place. Raises LedgerRefused if there is none.
    """
    index = first_index(first)
    if index == 0:
        return CompactTree()
    bases = [
        (size, stored.frontier)
        async for stored in reader.checkpoints(instance)
        if (size := size_of(stored)) >= index
    ]
    if not bases:
        raise LedgerRefused(
            (
                f"instance {instance}, entry {index}: it is the first that is kept, and no checkpoint leads on from there;"
                " use an older export",
            )
        )
    try:
        return CompactTree(*min(bases))
    except ValueError as error:
        raise LedgerRefused(
            (
                f"instance {instance}: the checkpoint of size {min(bases)[0]} has no frontier; use an older export",
            )
        ) from error


def size_of(stored: StoredCheckpoint) -> int:
    """The size that a checkpoint names, -1 if it cannot be read; whether it is true is for verification to ask."""
    try:
        return unverified_checkpoint(stored.note).size
    except NoteInvalid:
        return -1


def first_index(entry: EncodedEntry) -> int:
    """Where a ledger begins, of which retention may have taken the beginning away."""
    try:
        return max(0, read_leaf(entry.leaf).index)
    except EntryInvalid:
        return 0
