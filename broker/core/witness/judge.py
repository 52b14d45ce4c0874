"""Whether a witness that holds one checkpoint may take another in its place: only if the old tree is a prefix of the new."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.merkle.proofs import ProofInvalid, verify_consistency
from broker.ports.witness import WitnessConflict


class RootConflict(Exception):
    """There are two checkpoints of one size with different roots: the log was forked. `size` is that size.

    stale: whether the old size was another one as well, which is what the protocol answers first.
    """

    def __init__(self, size: int, *, stale: bool) -> None:
        super().__init__(f"a checkpoint of size {size} with another root is held")
        self.size = size
        self.stale = stale


def judge(held: Checkpoint | None, old_size: int, proof: Sequence[bytes], offered: Checkpoint) -> None:
    """Return if `offered` may take the place of `held`, which is None before the first contact.

    Raises RootConflict, whatever the old size says, WitnessConflict, and ProofInvalid.
    """
    held_size = 0 if held is None else held.size
    if held is not None and offered.size == held_size and offered.root != held.root:
        raise RootConflict(held_size, stale=old_size != held_size)
    if old_size != held_size:
        raise WitnessConflict(held_size)
    if held is not None:
        verify_consistency(held.size, held.root, offered.size, offered.root, proof)
    elif proof:
        raise ProofInvalid("consistency: a proof from size 0 is empty")
