"""A tree that grows at its right edge and keeps only the roots of its complete subtrees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.core.merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash


class CompactTree:
    """Appends leaf hashes and tells the root; memory is one hash for each bit of the size.

    `frontier` are the roots of the complete subtrees that make up the tree, the largest (leftmost) first: one for each
    set bit of `size`. It is all that is needed to go on.
    """

    def __init__(self, size: int = 0, frontier: Sequence[bytes] = ()) -> None:
        """Raises ValueError if the frontier is not one of a tree of this size."""
        if size < 0 or len(frontier) != size.bit_count() or any(len(h) != HASH_BYTES for h in frontier):
            raise ValueError("the frontier does not belong to a tree of this size")
        self._size = size
        self._frontier = list(frontier)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def frontier(self) -> tuple[bytes, ...]:
        """See the class."""
        return tuple(self._frontier)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        merged, size = leaf, self._size
        while size & 1:
            merged = node_hash(self._frontier.pop(), merged)
            size >>= 1
        self._frontier.append(merged)
        self._size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """The root over all leaves (MTH, RFC 6962 §2.1)."""
        if not self._frontier:
            return EMPTY_ROOT
        *above, root = self._frontier
        for subtree in reversed(above):
            root = node_hash(subtree, root)
        return root

    def copy(self) -> CompactTree:
        """An independent tree that stands at the same place."""
        return CompactTree(self._size, self._frontier)
