"""Inclusion and consistency proofs: made as in RFC 6962 §2.1.1 and §2.1.2, checked as in RFC 9162 §2.1.3.2 and §2.1.4.2.

A proof is a list of node hashes, 32 bytes each, the lowest first. RFC 9162 leaves both proofs as RFC 6962 has them. Checking
takes a tree's size and root as given: both come from one signed checkpoint, never one from the proof's own source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.core.merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash, root_of
from broker.core.merkle.tree import CompactTree

Subtree = Callable[[int, int], bytes]
"""The root over the leaves from an index to before another: MTH(D[begin:end]) for 0 <= begin < end."""


class ProofInvalid(ValueError):
    """A proof does not show what it should; one line that says which and how."""


def subtrees_of(hashes: Sequence[bytes]) -> Subtree:
    """Subtrees over leaf hashes, level by level and each level once; hashes may be appended later, but not changed."""
    levels: list[list[bytes]] = []

    def level(height: int) -> Sequence[bytes]:
        levels.extend([] for _ in range(height - len(levels)))
        below = hashes
        for found in levels[:height]:
            todo = range(len(found), len(below) // 2)
            found.extend(node_hash(below[2 * n], below[2 * n + 1]) for n in todo)
            below = found
        return below

    def subtree(begin: int, end: int) -> bytes:
        if not 0 <= begin < end <= len(hashes):
            raise ValueError(f"there is no subtree from {begin} to {end} in {len(hashes)} leaves")
        split = _split(end - begin)
        if end - begin == 1 or (end - begin == 2 * split and begin % (2 * split) == 0):
            height = (end - begin).bit_length() - 1
            return level(height)[begin >> height]
        return node_hash(subtree(begin, begin + split), subtree(begin + split, end))

    return subtree


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The path from a leaf to the root of the tree of this size (PATH, RFC 6962 §2.1.1); raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of size {size} has no leaf {index}")
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(old_size: int, new_size: int, subtree: Subtree) -> list[bytes]:
    """That the old tree is a prefix of the new one (PROOF, RFC 6962 §2.1.2); raises ValueError.

    Empty for an old size of 0, of which RFC 6962 does not speak, and for equal sizes.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of size {old_size} is no earlier one of a tree of size {new_size}")
    path: list[bytes] = []
    if old_size in (0, new_size):
        return path
    begin, end = 0, new_size
    while end != old_size:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    # The verifier knows the old root itself: it is not in the proof if it is one whole subtree of the new tree.
    return ([subtree(begin, end)] if begin else []) + path[::-1]


def consistency_since(old: CompactTree, leaves_since: Sequence[bytes]) -> list[bytes]:
    """The consistency proof from a tree that is known only by its frontier to that with these leaf hashes added.

    It needs no older leaves: what a proof takes from within the old tree are roots of its complete subtrees.
    """
    subtrees, begin = {}, 0
    for height, root in zip(_heights(old.size), old.frontier, strict=True):
        subtrees[begin, begin + (1 << height)] = root
        begin += 1 << height

    def subtree(begin: int, end: int) -> bytes:
        if end <= old.size:
            return subtrees[begin, end]
        return root_of(list(leaves_since[begin - old.size : end - old.size]))

    return consistency_proof(old.size, old.size + len(leaves_since), subtree)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raises ProofInvalid unless the leaf hash is at the index of the tree of that size and root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofInvalid(f"inclusion: a tree of size {size} has no leaf {index}")
    _check_hashes("inclusion", (leaf, root, *proof))
    # 2-3. fn: the node's number on its level; sn: that of the level's last node.
    fn, sn, node = index, size - 1, leaf
    # 4. Each hash of the path is a sibling on the left or on the right.
    for sibling in proof:
        if sn == 0:
            raise ProofInvalid("inclusion: the proof is too long for the tree's size")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:  # the last node moves up alone
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    # 5. At the root, with the root's hash.
    if sn:
        raise ProofInvalid("inclusion: the proof is too short for the tree's size")
    if node != root:
        raise ProofInvalid("inclusion: the proof does not lead to the tree's root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises ProofInvalid unless the old tree is a prefix of the new one (RFC 9162 §2.1.4.2).

    A tree of size 0 is a prefix of every other, and only its root is checked: that is the hash of nothing.
    """
    if not 0 <= old_size <= new_size:
        raise ProofInvalid(f"consistency: a tree of size {old_size} is no earlier one of size {new_size}")
    _check_hashes("consistency", (old_root, new_root, *proof))
    if any(size == 0 and root != EMPTY_ROOT for size, root in ((old_size, old_root), (new_size, new_root))):
        raise ProofInvalid("consistency: the root of an empty tree is the hash of nothing")
    if old_size in (0, new_size):
        if proof:
            raise ProofInvalid("consistency: the proof is too long for the trees' sizes")
        if old_size and old_root != new_root:
            raise ProofInvalid("consistency: two trees of one size have different roots")
        return
    _verify_growth(old_size, old_root, new_size, new_root, proof)


def _verify_growth(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162 §2.1.4.2 for 0 < old_size < new_size; the steps' numbers are its own."""
    if not proof:  # 1
        raise ProofInvalid("consistency: the proof is too short for the trees' sizes")
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # 2
        path.insert(0, old_root)
    fn, sn = old_size - 1, new_size - 1  # 3
    while fn & 1:  # 4
        fn, sn = fn >> 1, sn >> 1
    old_node = new_node = path[0]  # 5
    for node in path[1:]:  # 6
        if sn == 0:
            raise ProofInvalid("consistency: the proof is too long for the trees' sizes")
        if fn & 1 or fn == sn:
            old_node, new_node = node_hash(node, old_node), node_hash(node, new_node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_node = node_hash(new_node, node)
        fn, sn = fn >> 1, sn >> 1
    if sn:  # 7
        raise ProofInvalid("consistency: the proof is too short for the trees' sizes")
    if old_node != old_root:
        raise ProofInvalid("consistency: the proof does not lead to the old root")
    if new_node != new_root:
        raise ProofInvalid("consistency: the proof does not lead to the new root")


def _split(size: int) -> int:
    """The largest power of two below a size of two or more: where RFC 6962 §2.1 divides a tree; 0 for one leaf."""
    return (1 << (size - 1).bit_length()) >> 1 if size > 1 else 0


def _heights(size: int) -> list[int]:
    """The heights of the complete subtrees that make up a tree, the largest first."""
    return [height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1]


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    if any(len(node) != HASH_BYTES for node in hashes):
        raise ProofInvalid(f"{what}: a hash does not have {HASH_BYTES} bytes")
