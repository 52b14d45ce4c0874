"""Reading stored checkpoints back: opened, with their signatures checked, and in the order of their sizes."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from broker.core.checkpoint.checkpoint import open_checkpoint
from broker.core.checkpoint.note import NoteInvalid, VerifierKey
from broker.errors import LedgerRefused
from broker.model.ledger import StoredCheckpoint

LOOK_AHEAD = 1_024
"""How far apart two may be stored in the wrong order: a writer that was fenced may still have one under way."""


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose signature is good; whether it is that of the tree is another question."""

    size: int
    root: bytes
    stored: StoredCheckpoint


class CheckpointQueue:
    """One instance's checkpoints, the smallest first; few are in memory at once."""

    def __init__(
        self,
        source: AsyncIterator[StoredCheckpoint],
        instance: str,
        origin: str,
        keys: Sequence[VerifierKey],
    ) -> None:
        self._source = source
        self._instance = instance
        self._origin = origin
        self._keys = keys
        self._ahead: list[tuple[int, int, OpenedCheckpoint]] = []
        self._count = 0
        self._ended = False

    async def peek(self) -> OpenedCheckpoint | None:
        """The next one, or None at the end. Raises LedgerRefused for one that is not what was signed."""
        while not self._ended and len(self._ahead) < LOOK_AHEAD:
            stored = await anext(self._source, None)
            if stored is None:
                self._ended = True
            else:
                found = self._open(stored)
                heapq.heappush(self._ahead, (found.size, self._count, found))
                self._count += 1
        return self._ahead[0][2] if self._ahead else None

    def drop(self) -> None:
        """Done with the one that `peek` gave."""
        heapq.heappop(self._ahead)

    def _open(self, stored: StoredCheckpoint) -> OpenedCheckpoint:
        try:
            checkpoint, _ = open_checkpoint(stored.note, self._keys)
            if checkpoint.origin != self._origin:
                raise NoteInvalid(f"it is of the origin {checkpoint.origin}")
        except NoteInvalid as error:
            raise LedgerRefused(
                (
                    f"instance {self._instance}, stored checkpoint {self._count}: {error};"
                    " restore it from a copy, or the retired key that signed it to ledger.keys",
                )
            ) from error
        return OpenedCheckpoint(checkpoint.size, checkpoint.root, stored)
