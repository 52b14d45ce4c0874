"""The tree in an index: subtrees of any place and size from few reads, for proofs."""

from __future__ import annotations

import sqlite3

from broker.adapters.export.schema import ENTRY_BITS
from broker.core.audit.pieces import BLOCK
from broker.core.merkle.hashing import HASH_BYTES, node_hash, root_of
from broker.core.merkle.proofs import consistency_proof, inclusion_proof

_BLOCK_LEVELS = BLOCK.bit_length() - 1


def prove_inclusion(connection: sqlite3.Connection, name: str, index: int, size: int) -> list[bytes]:
    """See AuditIndex.inclusion_proof."""
    tree = StoredTree(connection, name)
    if not tree.first <= index < size <= tree.next:
        raise ValueError(f"entry {index} of a tree of size {size} is not indexed")
    return inclusion_proof(index, size, tree.subtree)


def prove_consistency(connection: sqlite3.Connection, name: str, old: int, new: int) -> list[bytes]:
    """See AuditIndex.consistency_proof."""
    tree = StoredTree(connection, name)
    if not (tree.first <= old <= new <= tree.next or old == 0):
        raise ValueError(f"trees of sizes {old} and {new} are not both indexed")
    return consistency_proof(old, new, tree.subtree)


class StoredTree:
    """One instance's tree; of the leaves before the first indexed one only the frontier is known."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        found = connection.execute(
            "SELECT number, first, next, base FROM instances WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            raise ValueError(f"instance '{name}' is not indexed")
        self._connection = connection
        self._number, self.first, self.next, base = found
        self._base: dict[tuple[int, int], bytes] = {}
        begin = 0
        nodes = [base[at : at + HASH_BYTES] for at in range(0, len(base), HASH_BYTES)]
        for height in reversed(range(self.first.bit_length())):
            if self.first >> height & 1:
                self._base[begin, begin + (1 << height)] = nodes.pop(0)
                begin += 1 << height

    def subtree(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end]); raises ValueError for one that is not known."""
        known = self._base.get((begin, end))
        if known is not None:
            return known
        size = end - begin
        if begin >= self.first and size <= BLOCK:
            return root_of(self._leaves(begin, end))
        if end <= self.first or size < 2:
            raise ValueError(f"the subtree from {begin} to {end} is not indexed")
        height = (size - 1).bit_length()
        if begin >= self.first and size == 1 << height and height % _BLOCK_LEVELS == 0 and begin % size == 0:
            return self._stored(height, begin >> height)
        # Below the next stored level all of a complete subtree's children are stored side by side.
        level = (height - 1) // _BLOCK_LEVELS * _BLOCK_LEVELS
        if begin >= self.first and level and begin % (1 << level) == end % (1 << level) == 0:
            return root_of(self._stored_range(level, begin >> level, end >> level))
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

    def _stored(self, level: int, number: int) -> bytes:
        return self._stored_range(level, number, number + 1)[0]

    def _stored_range(self, level: int, begin: int, end: int) -> list[bytes]:
        rows = self._connection.execute(
            "SELECT hash FROM subtrees WHERE instance = ? AND level = ? AND number >= ? AND number < ? ORDER BY number",
            (self._number, level, begin, end),
        ).fetchall()
        if len(rows) != end - begin:
            raise ValueError(f"subtrees {begin} to {end} of level {level} are not indexed")
        return [bytes(node) for (node,) in rows]
