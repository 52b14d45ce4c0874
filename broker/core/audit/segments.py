"""Stretches of a tree: what a range of leaves comes to, made without the leaves before it, and joined later in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.core.merkle.hashing import node_hash
from broker.core.merkle.tree import CompactTree


@dataclass(frozen=True, slots=True)
class Segment:
    """The leaves from `begin` to before `end` as the largest complete subtrees of RFC 6962's shape, left to right."""

    begin: int
    end: int
    subtrees: tuple[bytes, ...]


def segment_of(begin: int, end: int, subtree: Callable[[int, int], bytes]) -> Segment:
    """The segment of the leaves from `begin` to before `end`; subtree: the root over so many leaves, from one on."""
    parts = complete_subtrees(begin, end)
    return Segment(begin, end, tuple(subtree(at, 1 << height) for at, height in parts))


def extend(tree: CompactTree, segment: Segment) -> CompactTree:
    """The tree with the segment's leaves added; raises ValueError if the segment does not begin where the tree ends."""
    parts = complete_subtrees(segment.begin, segment.end)
    if tree.size != segment.begin or len(parts) != len(segment.subtrees):
        raise ValueError("the segment does not continue the tree")
    size, frontier = tree.size, list(tree.frontier)
    for (_, height), subtree in zip(parts, segment.subtrees, strict=True):
        merged, at = subtree, height
        while size >> at & 1:
            merged = node_hash(frontier.pop(), merged)
            at += 1
        frontier.append(merged)
        size += 1 << height
    return CompactTree(size, frontier)


def complete_subtrees(begin: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees that a range of leaves consists of, left to right: where each begins, and its height."""
    parts, at = [], begin
    while at < end:
        height = (end - at).bit_length() - 1
        if at:
            height = min(height, (at & -at).bit_length() - 1)
        parts.append((at, height))
        at += 1 << height
    return parts


class SegmentBuilder:
    """Makes a segment leaf by leaf; memory is a few hashes."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._end = begin
        self._subtrees: list[tuple[int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        height, at, merged = 0, self._end, leaf
        # A left sibling of the same height that begins on its parent's boundary makes the parent complete.
        while self._subtrees and self._subtrees[-1][0] == height and at >> height & 1:
            merged = node_hash(self._subtrees.pop()[1], merged)
            at -= 1 << height
            height += 1
        self._subtrees.append((height, merged))
        self._end += 1

    def segment(self) -> Segment:
        """What was added so far."""
        return Segment(self._begin, self._end, tuple(subtree for _, subtree in self._subtrees))
