"""Proofs from little memory are the proofs from all leaves, wherever they begin."""

from __future__ import annotations

import pytest

from broker.core.merkle.proofs import consistency_proof, subtrees_of
from broker.core.merkle.tree import CompactTree
from broker.core.witness.proving import RecentLeaves, StreamedProof
from tests.fakes.witnessed_log import WitnessedLog

SIZE = 36
LEAVES = WitnessedLog().grow(SIZE).leaves
SUBTREE = subtrees_of(LEAVES)


def tree_of(size: int) -> CompactTree:
    tree = CompactTree()
    tree.extend(LEAVES[:size])
    return tree


@pytest.mark.parametrize("new", range(SIZE + 1))
def test_every_proof_in_one_pass_from_every_beginning(new: int) -> None:
    for old in range(new + 1):
        for begin in range(old + 1):
            streamed = StreamedProof(tree_of(begin), old, new)
            for leaf in LEAVES[begin:]:
                streamed.extend([leaf])
            assert streamed.proof() == consistency_proof(old, new, SUBTREE), (begin, old, new)


def test_a_pass_that_ended_too_early_proves_nothing() -> None:
    streamed = StreamedProof(tree_of(3), 5, 9)
    streamed.extend(LEAVES[3:8])
    with pytest.raises(ValueError, match="only 8 of 9"):
        streamed.proof()


def test_leaves_that_begin_after_the_old_size_are_refused() -> None:
    with pytest.raises(ValueError, match="begin at 6"):
        StreamedProof(tree_of(6), 5, 9)


def test_recent_leaves_prove_what_they_reach_back_to() -> None:
    recent = RecentLeaves(tree_of(10))
    recent.extend(LEAVES[10:30])
    recent.extend(LEAVES[30:])
    assert recent.prove(9, SIZE) is None
    for old in range(10, SIZE + 1):
        for new in range(old, SIZE + 1):
            assert recent.prove(old, new) == consistency_proof(old, new, SUBTREE)
    recent.forget(20)
    assert recent.prove(19, 30) is None
    assert recent.prove(20, 30) == consistency_proof(20, 30, SUBTREE)


def test_beyond_the_limit_the_oldest_are_let_go() -> None:
    recent = RecentLeaves(tree_of(0), limit=10)
    for leaf in LEAVES:
        recent.extend([leaf])
    assert recent.prove(SIZE - 11, SIZE) is None
    assert recent.prove(SIZE - 5, SIZE) == consistency_proof(SIZE - 5, SIZE, SUBTREE)


@pytest.mark.parametrize(("old", "new"), [(5, 4), (SIZE, SIZE + 1), (SIZE + 1, SIZE + 1)])
def test_sizes_that_are_not_reached_are_an_error(old: int, new: int) -> None:
    recent = RecentLeaves(tree_of(0))
    recent.extend(LEAVES)
    with pytest.raises(ValueError, match="there is no tree"):
        recent.prove(old, new)
