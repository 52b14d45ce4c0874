"""A log that grows, signs checkpoints, proves their consistency, and can be forked or rolled back, as honest ones cannot."""

from __future__ import annotations

from hashlib import sha256

from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.checkpoint.note import Signer, VerifierKey
from broker.core.merkle.proofs import consistency_proof, subtrees_of
from broker.core.merkle.tree import CompactTree
from broker.core.witness.request import format_request
from broker.ports.witness import WitnessUpdate

SEED = bytes(range(32))


class WitnessedLog:
    """Entries are numbered; `history` makes those of a fork different."""

    def __init__(self, origin: str = "exchange-1/broker", *, seed: bytes = SEED) -> None:
        self.origin = origin
        self.leaves: list[bytes] = []
        self._signer = Signer(origin, seed)

    @property
    def key(self) -> VerifierKey:
        """The public key, under the origin as its name."""
        return self._signer.verifier_key

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.leaves)

    def grow(self, count: int, history: str = "true") -> WitnessedLog:
        """Add entries; returns the log."""
        begin = len(self.leaves)
        self.leaves += [
            sha256(f"{history} {number}".encode()).digest() for number in range(begin, begin + count)
        ]
        return self

    def fork(self, at: int) -> WitnessedLog:
        """Another log of the same name and key, with the first entries of this one."""
        other = WitnessedLog(self.origin)
        other._signer = self._signer
        other.leaves = self.leaves[:at]
        return other

    def checkpoint(self, size: int | None = None) -> bytes:
        """The signed checkpoint at a size, the present one unless told."""
        leaves = self.leaves if size is None else self.leaves[:size]
        tree = CompactTree()
        tree.extend(leaves)
        return sign_checkpoint(Checkpoint(self.origin, len(leaves), tree.root()), [self._signer])

    def proof(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """That one size is a prefix of another."""
        end = self.size if new_size is None else new_size
        return tuple(consistency_proof(old_size, end, subtrees_of(self.leaves)))

    def update(self, old_size: int, new_size: int | None = None) -> WitnessUpdate:
        """What a witness that holds the old size is offered."""
        return WitnessUpdate(self.origin, self.checkpoint(new_size), old_size, self.proof(old_size, new_size))

    def request(self, old_size: int, new_size: int | None = None) -> bytes:
        """The same as the body of an add-checkpoint request."""
        update = self.update(old_size, new_size)
        return format_request(update.old_size, update.proof, update.note)
