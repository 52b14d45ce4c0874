"""Merkle trees and proofs: known answers of Certificate Transparency, RFC 6962's definitions, and what must not verify."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.merkle.hashing import EMPTY_ROOT, leaf_hash, node_hash, root_of
from broker.core.merkle.proofs import (
    ProofInvalid,
    consistency_proof,
    consistency_since,
    inclusion_proof,
    subtrees_of,
    verify_consistency,
    verify_inclusion,
)
from broker.core.merkle.tree import CompactTree

DATA = Path(__file__).resolve().parents[1] / "data"
REFERENCE = json.loads((DATA / "ct-reference-tree.json").read_text())
ARGON = json.loads((DATA / "ct-argon2020.json").read_text())

MOST_LEAVES = 140
LEAVES = [leaf_hash(b"leaf %d" % n) for n in range(MOST_LEAVES)]
SUBTREE = subtrees_of(LEAVES)
ROOTS = [root_of(LEAVES[:size]) for size in range(MOST_LEAVES + 1)]

sizes = st.integers(1, MOST_LEAVES)
PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word by word."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def verifies(check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofInvalid as error:
        assert "\n" not in str(error)
        return False
    return True


@dataclass(frozen=True)
class Inclusion:
    """The arguments of verify_inclusion, to be changed one by one."""

    leaf: bytes
    index: int
    size: int
    proof: list[bytes]
    root: bytes

    def verifies(self) -> bool:
        return verifies(partial(verify_inclusion, self.leaf, self.index, self.size, self.proof, self.root))


@dataclass(frozen=True)
class Consistency:
    """The arguments of verify_consistency, likewise."""

    old_size: int
    old_root: bytes
    size: int
    root: bytes
    proof: list[bytes]

    def verifies(self) -> bool:
        return verifies(
            partial(verify_consistency, self.old_size, self.old_root, self.size, self.root, self.proof)
        )


def included(index: int, size: int) -> Inclusion:
    return Inclusion(LEAVES[index], index, size, inclusion_proof(index, size, SUBTREE), ROOTS[size])


def consistent(old_size: int, size: int) -> Consistency:
    return Consistency(
        old_size, ROOTS[old_size], size, ROOTS[size], consistency_proof(old_size, size, SUBTREE)
    )


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def damaged_proofs(proof: list[bytes], bit: int) -> Iterator[list[bytes]]:
    """The proof with one hash changed, doubled, left out or of another length; with two swapped; and with more at an end."""
    for n, node in enumerate(proof):
        before, after = proof[:n], proof[n + 1 :]
        yield [*before, flipped(node, bit), *after]
        yield [*before, *after]
        yield [*before, node, node, *after]
        yield [*before, node[:-1], *after]
        yield [*before, node + b"\0", *after]
        if after:
            yield [*before, after[0], node, *after[1:]]
    for more in (EMPTY_ROOT, b"", LEAVES[0]):
        yield [*proof, more]
        yield [more, *proof]


# ---- known answers ----


def test_the_hashes_of_the_reference_tree() -> None:
    leaves = [bytes.fromhex(text) for text in REFERENCE["leaf_inputs"]]
    tree = CompactTree()
    assert tree.root() == EMPTY_ROOT == root_of([])
    roots = [tree.root()]
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
        roots.append(tree.root())
    assert [root.hex() for root in roots] == REFERENCE["root_hashes"]
    assert [root_of([leaf_hash(leaf) for leaf in leaves[:n]]).hex() for n in range(9)] == REFERENCE[
        "root_hashes"
    ]


@pytest.mark.parametrize(
    "known", REFERENCE["inclusion"], ids=lambda k: f"{k['leaf_index']} of {k['tree_size']}"
)
def test_inclusion_proofs_of_the_reference_tree(known: dict[str, Any]) -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in REFERENCE["leaf_inputs"]]
    index, size = known["leaf_index"], known["tree_size"]
    proof = inclusion_proof(index, size, subtrees_of(leaves))
    assert [node.hex() for node in proof] == known["proof"]
    verify_inclusion(leaves[index], index, size, proof, bytes.fromhex(REFERENCE["root_hashes"][size]))


@pytest.mark.parametrize("known", REFERENCE["consistency"], ids=lambda k: f"{k['size1']} to {k['size2']}")
def test_consistency_proofs_of_the_reference_tree(known: dict[str, Any]) -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in REFERENCE["leaf_inputs"]]
    old, new = known["size1"], known["size2"]
    proof = consistency_proof(old, new, subtrees_of(leaves))
    assert [node.hex() for node in proof] == known["proof"]
    roots = [bytes.fromhex(text) for text in REFERENCE["root_hashes"]]
    verify_consistency(old, roots[old], new, roots[new], proof)


def test_the_example_of_rfc_6962() -> None:
    """§2.1.3 (RFC 9162 §2.1.5): the tree of seven leaves and its proofs, by the names that the text gives to the nodes."""
    a, b, c, d, e, f, j = leaves = LEAVES[:7]
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l = node_hash(g, h), node_hash(i, j)  # noqa: E741 - the text's names
    subtree = subtrees_of(leaves)
    assert subtree(0, 7) == node_hash(k, l)
    assert inclusion_proof(0, 7, subtree) == [b, h, l]
    assert inclusion_proof(3, 7, subtree) == [c, g, l]
    assert inclusion_proof(4, 7, subtree) == [f, j, k]
    assert inclusion_proof(6, 7, subtree) == [i, k]
    assert consistency_proof(3, 7, subtree) == [c, d, g, l]
    assert consistency_proof(4, 7, subtree) == [l]
    assert consistency_proof(6, 7, subtree) == [i, j, k]


def _argon() -> tuple[Inclusion, Consistency]:
    decode = base64.b64decode
    size, root = ARGON["tree_size"], decode(ARGON["sha256_root_hash"])
    path = [decode(text) for text in ARGON["audit_path"]]
    growth = [decode(text) for text in ARGON["consistency"]]
    leaf = leaf_hash(decode(ARGON["leaf_input"]))
    return (
        Inclusion(leaf, ARGON["leaf_index"], size, path, root),
        Consistency(ARGON["old_tree_size"], decode(ARGON["old_sha256_root_hash"]), size, root, growth),
    )


def test_proofs_of_a_public_log() -> None:
    inclusion, consistency = _argon()
    assert inclusion.verifies()
    assert consistency.verifies()
    assert not any(replace(inclusion, proof=proof).verifies() for proof in damaged_proofs(inclusion.proof, 7))
    assert not any(
        replace(consistency, proof=proof).verifies() for proof in damaged_proofs(consistency.proof, 7)
    )


# ---- trees ----


@PLENTY
@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_all_ways_to_a_root_agree(hashes: list[bytes]) -> None:
    tree = CompactTree()
    tree.extend(hashes)
    assert tree.size == len(hashes)
    assert tree.root() == root_of(hashes) == mth(hashes)
    if hashes:
        assert subtrees_of(hashes)(0, len(hashes)) == tree.root()


@PLENTY
@given(st.data(), sizes)
def test_every_subtree_is_the_tree_over_its_leaves(data: st.DataObject, size: int) -> None:
    begin = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(begin + 1, size))
    assert SUBTREE(begin, end) == mth(LEAVES[begin:end])


@PLENTY
@given(sizes, sizes)
def test_a_tree_goes_on_from_its_frontier(size: int, more: int) -> None:
    tree = CompactTree()
    tree.extend(LEAVES[:size])
    copy, resumed = tree.copy(), CompactTree(size, tree.frontier)
    for grown in (copy, resumed):
        grown.extend(LEAVES[:more])
        assert grown.root() == root_of(LEAVES[:size] + LEAVES[:more])
    assert tree.root() == ROOTS[size]


@pytest.mark.parametrize(
    ("size", "frontier"),
    [(-1, []), (0, [EMPTY_ROOT]), (1, []), (2, [EMPTY_ROOT] * 2), (3, [b"", EMPTY_ROOT])],
)
def test_a_frontier_of_another_size_is_refused(size: int, frontier: list[bytes]) -> None:
    with pytest.raises(ValueError, match="frontier"):
        CompactTree(size, frontier)


def test_subtrees_follow_a_list_that_grows() -> None:
    growing: list[bytes] = []
    subtree = subtrees_of(growing)
    for size, leaf in enumerate(LEAVES[:40], start=1):
        growing.append(leaf)
        assert subtree(0, size) == ROOTS[size]
        assert inclusion_proof(size - 1, size, subtree) == included(size - 1, size).proof


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (3, 2), (-1, 1), (0, MOST_LEAVES + 1)])
def test_there_is_no_subtree_outside_the_tree(begin: int, end: int) -> None:
    with pytest.raises(ValueError, match="no subtree"):
        SUBTREE(begin, end)


# ---- inclusion ----


def test_every_leaf_is_included() -> None:
    for size in range(1, 40):
        assert all(included(index, size).verifies() for index in range(size))


@PLENTY
@given(st.data(), sizes, st.integers(0, 255))
def test_no_damaged_inclusion_proof_verifies(data: st.DataObject, size: int, bit: int) -> None:
    good = included(data.draw(st.integers(0, size - 1)), size)
    assert good.verifies()
    assert not any(replace(good, proof=proof).verifies() for proof in damaged_proofs(good.proof, bit))
    assert not replace(good, leaf=flipped(good.leaf, bit)).verifies()
    assert not replace(good, root=flipped(good.root, bit)).verifies()
    assert not replace(good, leaf=good.leaf[:-1]).verifies()
    assert not replace(good, root=b"").verifies()


@PLENTY
@given(st.data(), sizes)
def test_a_proof_is_good_for_one_index(data: st.DataObject, size: int) -> None:
    good = included(data.draw(st.integers(0, size - 1)), size)
    for index in (-1, *range(size + 2)):
        assert replace(good, index=index).verifies() == (index == good.index)


@PLENTY
@given(st.data(), sizes)
def test_no_inclusion_in_a_tree_of_half_or_twice_the_size(data: st.DataObject, size: int) -> None:
    good = included(data.draw(st.integers(0, size - 1)), size)
    assert not any(replace(good, size=other).verifies() for other in (size // 2, size * 2, 0, -size))


def test_a_node_is_no_leaf() -> None:
    """The prefix of leaf hashes (RFC 6962 §2.1): a node's two children are not the bytes of a leaf."""
    good = included(4, 8)
    above = node_hash(LEAVES[4], LEAVES[5])
    assert not Inclusion(leaf_hash(LEAVES[4] + LEAVES[5]), 2, 4, good.proof[1:], good.root).verifies()
    # An inner node as a leaf of a smaller tree does verify, which is why the size must come from the checkpoint.
    assert Inclusion(above, 2, 4, good.proof[1:], good.root).verifies()


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (5, 4)])
def test_there_is_no_proof_of_a_leaf_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(index, size, SUBTREE)
    assert not Inclusion(LEAVES[0], index, size, [], LEAVES[0]).verifies()


# ---- consistency ----


def test_every_tree_is_a_prefix_of_those_after_it() -> None:
    for size in range(40):
        assert all(consistent(old_size, size).verifies() for old_size in range(size + 1))


@PLENTY
@given(st.data(), sizes)
def test_the_frontier_is_enough_for_a_consistency_proof(data: st.DataObject, size: int) -> None:
    old_size = data.draw(st.integers(0, size))
    old = CompactTree()
    old.extend(LEAVES[:old_size])
    since = consistency_since(old, LEAVES[old_size:size])
    assert since == consistency_proof(old_size, size, SUBTREE)
    assert old.size == old_size


@PLENTY
@given(st.data(), sizes, st.integers(0, 255))
def test_no_damaged_consistency_proof_verifies(data: st.DataObject, size: int, bit: int) -> None:
    good = consistent(data.draw(st.integers(0, size)), size)
    assert good.verifies()
    assert not any(replace(good, proof=proof).verifies() for proof in damaged_proofs(good.proof, bit))
    assert not replace(good, old_root=flipped(good.old_root, bit)).verifies()
    # Every tree grows from the empty one, so that proof says nothing of the new root.
    assert replace(good, root=flipped(good.root, bit)).verifies() == (good.old_size == 0)
    assert not replace(good, root=good.root[:-1]).verifies()


@PLENTY
@given(st.data(), sizes)
def test_a_proof_is_good_for_one_old_size(data: st.DataObject, size: int) -> None:
    good = consistent(data.draw(st.integers(0, size)), size)
    for old_size in (-1, *range(size + 2)):
        assert replace(good, old_size=old_size).verifies() == (old_size == good.old_size)


@PLENTY
@given(st.data(), st.integers(2, MOST_LEAVES))
def test_a_rewritten_tree_is_not_consistent(data: st.DataObject, size: int) -> None:
    """Whoever changes an old leaf finds no proof among those that the trees allow."""
    old_size = data.draw(st.integers(1, size - 1))
    index = data.draw(st.integers(0, old_size - 1))
    rewritten = [*LEAVES[:index], leaf_hash(b"rewritten"), *LEAVES[index + 1 : size]]
    proof = consistency_proof(old_size, size, subtrees_of(rewritten))
    grown = replace(consistent(old_size, size), root=root_of(rewritten))
    assert not grown.verifies()
    assert not replace(grown, proof=proof).verifies()


def test_a_shrunk_tree_is_not_consistent() -> None:
    good = consistent(5, 8)
    shrunk = Consistency(8, good.root, 5, good.old_root, good.proof)
    assert not shrunk.verifies()
    assert not replace(shrunk, proof=[]).verifies()
    with pytest.raises(ValueError, match="no earlier one"):
        consistency_proof(8, 5, SUBTREE)
    with pytest.raises(ValueError, match="no earlier one"):
        consistency_proof(-1, 5, SUBTREE)


def test_empty_and_equal_trees() -> None:
    assert Consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, []).verifies()
    assert Consistency(0, EMPTY_ROOT, 5, ROOTS[5], []).verifies()
    assert Consistency(5, ROOTS[5], 5, ROOTS[5], []).verifies()
    assert not Consistency(0, ROOTS[5], 5, ROOTS[5], []).verifies()
    assert not Consistency(0, ROOTS[1], 0, ROOTS[1], []).verifies()
    assert not Consistency(0, EMPTY_ROOT, 5, ROOTS[5], [EMPTY_ROOT]).verifies()
    assert not Consistency(5, ROOTS[5], 5, ROOTS[4], []).verifies()
    assert not Consistency(5, ROOTS[5], 5, ROOTS[5], [ROOTS[5]]).verifies()
    assert not Consistency(4, ROOTS[4], 8, ROOTS[8], []).verifies()


@PLENTY
@given(st.integers(2**40, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=3))
def test_claimed_sizes_cost_no_more_than_the_proof_is_long(size: int, proof: list[bytes]) -> None:
    assert not Inclusion(LEAVES[0], size - 1, size, proof, ROOTS[2]).verifies()
    assert not Consistency(size - 1, ROOTS[1], size, ROOTS[2], proof).verifies()
