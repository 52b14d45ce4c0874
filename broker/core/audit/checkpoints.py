"""Stored checkpoints as verification takes them: in the order of their sizes, and with what their signatures are worth."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from broker.core.audit.chunk import RESTORE
from broker.core.audit.findings import Findings
from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import NoteInvalid, SignedNote, VerifierKey
from broker.model.ledger import StoredCheckpoint

LOOK_AHEAD = 1_024
"""How far apart two may be stored in the wrong order: a writer that was fenced may still have one under way."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint that can be read; nobody knows yet whether it is true. frontier: as it is stored beside it."""

    checkpoint: Checkpoint
    note: SignedNote
    frontier: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """What a note's signatures are worth. by: public keys that have signed it; fault: a signature that is false."""

    by: frozenset[bytes]
    cosigned: bool
    fault: str = ""


class CheckpointQueue:
    """One instance's checkpoints, the smallest first; few are in memory at once."""

    def __init__(self, source: AsyncIterator[StoredCheckpoint], instance: str, findings: Findings) -> None:
        self._source = source
        self._instance = instance
        self._findings = findings
        self._ahead: list[tuple[int, int, Opened]] = []
        self._ended = False
        self.count = 0

    async def take(self, size: int | None) -> list[Opened]:
        """Those of trees up to this size, that were not taken before; None for all that are left."""
        taken: list[Opened] = []
        while True:
            while not self._ended and len(self._ahead) < LOOK_AHEAD:
                await self._read()
            if not self._ahead or (size is not None and self._ahead[0][0] > size):
                return taken
            taken.append(heapq.heappop(self._ahead)[2])

    async def _read(self) -> None:
        stored = await anext(self._source, None)
        if stored is None:
            self._ended = True
            return
        self.count += 1
        try:
            note = SignedNote.parse(stored.note)
            checkpoint = Checkpoint.parse(note.text)
        except NoteInvalid as error:
            what = f"checkpoint {self.count - 1} cannot be read: {error}"
            self._findings.fault(self._instance, None, what, RESTORE)
            return
        heapq.heappush(self._ahead, (checkpoint.size, self.count, Opened(checkpoint, note, stored.frontier)))


@dataclass(slots=True)
class Signatures:
    """Notes whose signatures are to be checked, here or in another process."""

    notes: Sequence[SignedNote]
    keys: Sequence[VerifierKey]
    witnesses: Sequence[VerifierKey] = field(default=())

    def check(self) -> list[Signed]:
        """One answer for each note."""
        return [self._check(note) for note in self.notes]

    def _check(self, note: SignedNote) -> Signed:
        try:
            origin = Checkpoint.parse(note.text).origin
            by = frozenset(key.public_key for key in self.keys if note.is_signed_by(key.named(origin)))
            cosigned = [cosignature_time_s(note, witness) is not None for witness in self.witnesses]
            return Signed(by, any(cosigned))
        except NoteInvalid as error:
            return Signed(frozenset(), cosigned=False, fault=str(error))
