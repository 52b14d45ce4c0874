"""Stretches of a tree: what a range of leaves comes to, made without the leaves before it, and joined later in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.merkle.hashing import node_hash, root_of
from broker.core.merkle.tree import CompactTree


@dataclass(frozen=True, slots=True)
class Segment:
    """The leaves from `begin` to before `end` as the largest complete subtrees of RFC 6962's shape, left to right."""

    begin: int
    end: int
    subtrees: tuple[bytes, ...]


def segment_of(hashes: Sequence[bytes], begin: int) -> Segment:
    """The segment of these leaf hashes, the first of which has index `begin`."""
    end = begin + len(hashes)
    subtrees = [
        root_of(list(hashes[low - begin : low - begin + (1 << height)])) for low, height in _parts(begin, end)
    ]
    return Segment(begin, end, tuple(subtrees))


def extend(tree: CompactTree, segment: Segment) -> CompactTree:
    """The tree with the segment's leaves added; raises ValueError if the segment does not begin where the tree ends."""
    parts = _parts(segment.begin, segment.end)
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


def _parts(begin: int, end: int) -> list[tuple[int, int]]:
    """Where the largest aligned powers of two between two indexes begin, and their heights."""
    parts, at = [], begin
    while at < end:
        height = (end - at).bit_length() - 1
        if at:
            height = min(height, (at & -at).bit_length() - 1)
        parts.append((at, height))
        at += 1 << height
    return parts
