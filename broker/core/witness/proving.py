"""Consistency proofs for witnesses, from little memory: from recent leaf hashes, or from one pass over the stored ones.

A witness holds what it was given last, so a proof mostly starts where the last one ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.core.merkle.hashing import EMPTY_ROOT
from broker.core.merkle.proofs import consistency_proof, consistency_since
from broker.core.merkle.tree import CompactTree

RECENT_LEAVES = 100_000


class RecentLeaves:
    """The leaf hashes since a tree that is known by its frontier; the oldest are let go beyond `limit`."""

    def __init__(self, tree: CompactTree, *, limit: int = RECENT_LEAVES) -> None:
        self._base = tree.copy()
        self._leaves: list[bytes] = []
        self._limit = limit

    def extend(self, leaves: Sequence[bytes]) -> None:
        """The ledger has grown by these."""
        self._leaves += leaves
        if len(self._leaves) > self._limit:
            # Half at once, so that letting go costs little for each leaf.
            self.forget(self._base.size + len(self._leaves) - self._limit // 2)

    def forget(self, size: int) -> None:
        """No proof from below this size will be asked for."""
        count = min(max(0, size - self._base.size), len(self._leaves))
        self._base.extend(self._leaves[:count])
        del self._leaves[:count]

    def prove(self, old_size: int, new_size: int) -> list[bytes] | None:
        """The proof, or None if the old size lies before what is kept. Raises ValueError for a size not reached yet."""
        begin = self._base.size
        if not old_size <= new_size <= begin + len(self._leaves):
            raise ValueError(f"there is no tree of size {new_size} that follows one of size {old_size}")
        if old_size < begin:
            return None
        old = self._base.copy()
        old.extend(self._leaves[: old_size - begin])
        return consistency_since(old, self._leaves[old_size - begin : new_size - begin])


class StreamedProof:
    """A consistency proof from leaf hashes that pass by once, in order: memory is a few hashes for each bit of the size.

    The leaves begin where `base` ends, which is a tree of at most the old size (an empty one: at the first leaf).
    """

    def __init__(self, base: CompactTree, old_size: int, new_size: int) -> None:
        """Raises ValueError unless base.size <= old_size <= new_size."""
        if base.size > old_size:
            raise ValueError(f"the leaves begin at {base.size}, after the old size of {old_size}")
        self._sizes = old_size, new_size
        self._position = base.size
        needed: list[tuple[int, int]] = []

        def remember(begin: int, end: int) -> bytes:
            needed.append((begin, end))
            return EMPTY_ROOT

        consistency_proof(old_size, new_size, remember)
        # The subtrees of a proof do not overlap, so each leaf goes into one of them at the most.
        self._subtrees = [(begin, end, _part(base, begin, end)) for begin, end in sorted(needed)]
        self._current = 0

    def extend(self, leaves: Iterable[bytes]) -> None:
        """The next leaf hashes; those from the new size on are ignored."""
        for leaf in leaves:
            index, self._position = self._position, self._position + 1
            while self._current < len(self._subtrees) and index >= self._subtrees[self._current][1]:
                self._current += 1
            if self._current < len(self._subtrees) and index >= self._subtrees[self._current][0]:
                self._subtrees[self._current][2].append(leaf)

    def proof(self) -> list[bytes]:
        """Raises ValueError if fewer leaves passed than the new size needs."""
        old_size, new_size = self._sizes
        if self._position < new_size:
            raise ValueError(f"only {self._position} of {new_size} leaves were there")
        roots = {(begin, end): tree.root() for begin, end, tree in self._subtrees}
        return consistency_proof(old_size, new_size, lambda begin, end: roots[begin, end])


def _part(base: CompactTree, begin: int, end: int) -> CompactTree:
    """What of the subtree lies in the base already. Subtrees below the old size are whole ones (RFC 6962 §2.1.2), so the
    base's own complete subtrees either lie within one of them or outside it."""
    place, size, inside = 0, 0, []
    for height, root in zip(_heights(base.size), base.frontier, strict=True):
        if begin <= place and place + (1 << height) <= end:
            inside.append(root)
            size += 1 << height
        place += 1 << height
    return CompactTree(size, inside)


def _heights(size: int) -> list[int]:
    return [height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1]
