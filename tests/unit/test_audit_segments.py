"""Stretches of trees, made apart and joined, are the tree that was grown leaf by leaf."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit.segments import Segment, SegmentBuilder, extend, segment_of
from broker.core.merkle.hashing import root_of
from broker.core.merkle.tree import CompactTree

LEAVES = [sha256(b"%d" % n).digest() for n in range(600)]


def segment(begin: int, end: int) -> Segment:
    return segment_of(begin, end, lambda at, size: root_of(LEAVES[at : at + size]))


def grown(size: int) -> CompactTree:
    tree = CompactTree()
    tree.extend(LEAVES[:size])
    return tree


@given(st.lists(st.integers(0, len(LEAVES)), max_size=6))
def test_any_cuts_give_the_same_tree(cuts: list[int]) -> None:
    tree, low = CompactTree(), 0
    for high in sorted(cuts):
        tree, low = extend(tree, segment(low, high)), high
    assert (tree.size, tree.frontier, tree.root()) == (low, grown(low).frontier, grown(low).root())


@given(st.integers(0, 500), st.integers(0, 100))
def test_a_segment_grows_leaf_by_leaf(begin: int, count: int) -> None:
    builder = SegmentBuilder(begin)
    for leaf in LEAVES[begin : begin + count]:
        builder.append(leaf)
    assert builder.segment() == segment(begin, begin + count)


def test_only_what_continues_the_tree_is_added() -> None:
    with pytest.raises(ValueError):
        extend(grown(5), segment(6, 9))
    with pytest.raises(ValueError):
        extend(grown(5), Segment(5, 9, (LEAVES[0],)))
