"""The tree in an index: subtrees of any place and size from few reads, for proofs."""

from __future__ import annotations

import sqlite3

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.audit.pieces import BLOCK
from broker.core.audit.segments import complete_subtrees
from broker.core.merkle.hashing import HASH_BYTES, node_hash, root_of
from broker.core.merkle.proofs import consistency_proof, inclusion_proof

_BLOCK_LEVELS = BLOCK.bit_length() - 1


def prove_inclusion(connection: sqlite3.Connection, name: str, index: int, size: int) -> list[bytes]:
    """See AuditIndex.inclusion_proof."""
    tree = StoredTree(connection, name)
    if not (tree.first <= index < tree.next and index < size and tree.reaches(size)):
        raise ValueError(f"entry {index} of a tree of size {size} is not indexed")
    return inclusion_proof(index, size, tree.subtree)


def prove_consistency(connection: sqlite3.Connection, name: str, old: int, new: int) -> list[bytes]:
    """See AuditIndex.consistency_proof."""
    tree = StoredTree(connection, name)
    if not (old == 0 or tree.first <= old <= new) or not (tree.reaches(old) and tree.reaches(new)):
        raise ValueError(f"trees of sizes {old} and {new} are not both indexed")
    return consistency_proof(old, new, tree.subtree)


class StoredTree:
    """One instance's tree; of the leaves before the first indexed one only the frontier is known."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        found = connection.execute(
            "SELECT number, first, next, base, tail_size, tail FROM instances WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            raise ValueError(f"instance '{name}' is not indexed")
        self._connection = connection
        self._number, self.first, self.next = (int(number) for number in found[:3])
        base, self._tail_size, tail = bytes(found[3]), int(found[4]), bytes(found[5])
        self._known: dict[tuple[int, int], bytes] = {}
        for begin, end, nodes in ((0, self.first, base), (self.next, self._tail_size, tail)):
            for number, (low, height) in enumerate(complete_subtrees(begin, end)):
                self._known[low, low + (1 << height)] = nodes[number * HASH_BYTES : (number + 1) * HASH_BYTES]

    def reaches(self, size: int) -> bool:
        """Whether the tree of this size is known."""
        return size <= self.next or size == self._tail_size

    def subtree(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end]); raises ValueError for one that is not known."""
        known = self._known.get((begin, end))
        if known is not None:
            return known
        if self.first <= begin and end <= self.next:
            return self._indexed(begin, end)
        size = end - begin
        if size < 2:
            raise ValueError(f"the subtree from {begin} to {end} is not indexed")
        split = 1 << ((size - 1).bit_length() - 1)
        return node_hash(self.subtree(begin, begin + split), self.subtree(begin + split, end))

    def _indexed(self, begin: int, end: int) -> bytes:
        size = end - begin
        if size <= BLOCK:
            return root_of(self._leaves(begin, end))
        # Of the next stored level below, all nodes that the subtree has lie side by side.
        height = (size - 1).bit_length()
        level = height if height % _BLOCK_LEVELS == 0 else height - height % _BLOCK_LEVELS
        if begin % (1 << level) == end % (1 << level) == 0:
            return root_of(self._stored(level, begin >> level, end >> level))
        split = 1 << (height - 1)
        return node_hash(self.subtree(begin, begin + split), self.subtree(begin + split, end))

    def _leaves(self, begin: int, end: int) -> list[bytes]:
        base = self._number << ENTRY_BITS
        rows = self._connection.execute(
            "SELECT leaf_hash FROM entries WHERE entry >= ? AND entry < ? ORDER BY entry",
            (base + begin, base + end),
        ).fetchall()
        if len(rows) != end - begin:
            raise ValueError(f"the entries from {begin} to {end} are not all indexed")
        return [bytes(leaf) for (leaf,) in rows]

    def _stored(self, level: int, begin: int, end: int) -> list[bytes]:
        rows = self._connection.execute(
            "SELECT hash FROM subtrees WHERE instance = ? AND level = ? AND number >= ? AND number < ? ORDER BY number",
            (self._number, level, begin, end),
        ).fetchall()
        if len(rows) != end - begin:
            raise ValueError(f"subtrees {begin} to {end} of level {level} are not indexed")
        return [bytes(node) for (node,) in rows]
