"""Consistency proofs of this instance's tree, for its witnesses."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.ledger.heading import read_heading
from broker.core.ledger.rebuild import Rebuilt
from broker.core.merkle.hashing import leaf_hash
from broker.core.witness.proving import RecentLeaves, StreamedProof
from broker.model.ledger import ReadPoint
from broker.ports.ledger_log import LedgerReader
from broker.ports.witness import WitnessUnavailable


class Proofs:
    """From memory for what was added lately, else from one pass over the log."""

    def __init__(self, reader: LedgerReader, instance: str, rebuilt: Rebuilt) -> None:
        self._reader = reader
        self._instance = instance
        self._base = rebuilt.base
        self._recent = RecentLeaves(rebuilt.tree)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """The tree has grown by these leaf hashes."""
        self._recent.extend(leaves)

    async def prove(self, old_size: int, new_size: int) -> Sequence[bytes]:
        """That the tree of the old size (above 0) is a prefix of that of the new one.

        Raises WitnessUnavailable for an old size that lies before what retention left, StorageUnavailable.
        """
        proof = self._recent.prove(old_size, new_size)
        return proof if proof is not None else await self._read(old_size, new_size)

    async def _read(self, old_size: int, new_size: int) -> Sequence[bytes]:
        expected = self._base.size
        if old_size < expected:
            raise _too_old(old_size)
        stream = StreamedProof(self._base, old_size, new_size)
        async for page in self._reader.read(self._instance, ReadPoint()):
            for entry in page.entries:
                heading = read_heading(entry.leaf)
                index = -1 if heading is None else heading.index
                if index > expected:
                    raise _too_old(old_size)
                if index == expected < new_size:
                    stream.extend([leaf_hash(entry.leaf)])
                    expected += 1
            if expected == new_size:
                break
        return stream.proof()


def _too_old(size: int) -> WitnessUnavailable:
    return WitnessUnavailable(
        f"a checkpoint of size {size} lies before the first entry that is kept; let the witness begin anew"
    )
