"""Ledgers in pieces that can be read and examined anywhere, also in another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from broker.core.audit.segments import Segment
from broker.core.ledger.leaf import EntryInvalid, read_leaf
from broker.core.merkle.tree import CompactTree
from broker.model.ledger import EncodedEntry, ReadPoint
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

    def entries(self) -> list[EncodedEntry]:
        """Reads them, blocking. Raises StorageUnavailable."""


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

    def entries(self) -> list[EncodedEntry]:
        """See Piece."""
        return list(self.held)


async def pieces_of(reader: LedgerReader, instance: str) -> AsyncIterator[Piece]:
    """The pieces of any ledger from its first entry that is kept."""
    begin, held, size = -1, list[EncodedEntry](), 0
    async for read in reader.read(instance, ReadPoint()):
        for entry in read.entries:
            if begin < 0:
                begin = _first_index(entry)
            held.append(entry)
            size += len(entry.leaf) + len(entry.openings)
            if (begin + len(held)) % BLOCK == 0 and (len(held) >= PIECE_ENTRIES or size >= PIECE_BYTES):
                yield HeldPiece(instance, begin, tuple(held))
                begin, held, size = begin + len(held), [], 0
    if held:
        yield HeldPiece(instance, begin, tuple(held))


def _first_index(entry: EncodedEntry) -> int:
    """Where a ledger begins, of which retention may have taken the beginning away."""
    try:
        return max(0, read_leaf(entry.leaf).index)
    except EntryInvalid:
        return 0
