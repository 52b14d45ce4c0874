"""Syntax trees that are kept from one revision to the next."""

from __future__ import annotations

import pytest

from broker.core.rulebook.syntax import Node, PackedTrees


class Parser:
    """Parses "deep" to a tree that cannot be written, and nothing of "wrong"; counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def __call__(self, path: str, source: bytes) -> Node:
        self.asked.append((path, source))
        if source == b"wrong":
            raise ValueError(path)
        tree: Node = {"source": source.decode(), "location": {"row": 1}}
        for _ in range(600 if source == b"deep" else 0):
            tree = {"value": tree}
        return tree


def test_a_module_is_parsed_once_and_what_changed_again() -> None:
    parser = Parser()
    trees = PackedTrees(parser)
    assert trees("a", b"1") == trees("a", b"1") == {"source": "1", "location": {"row": 1}}
    assert trees("a", b"2")["source"] == "2"
    assert trees("b", b"1")["source"] == "1"
    assert parser.asked == [("a", b"1"), ("a", b"2"), ("b", b"1")]


def test_those_that_were_asked_for_last_are_kept() -> None:
    parser = Parser()
    trees = PackedTrees(parser, limit_bytes=110)
    for source in (b"1", b"2", b"1", b"3", b"1"):
        trees("a", source)
    assert parser.asked == [("a", b"1"), ("a", b"2"), ("a", b"3")]
    trees("a", b"2")
    assert parser.asked[-1] == ("a", b"2")


@pytest.mark.parametrize("limit_bytes", [0, 40])
def test_one_that_is_larger_than_all_that_may_be_kept_is_parsed_each_time(limit_bytes: int) -> None:
    parser = Parser()
    trees = PackedTrees(parser, limit_bytes)
    assert trees("a", b"1") == trees("a", b"1")
    assert len(parser.asked) == 2


def test_what_is_no_module_or_too_deep_to_be_written_is_parsed_each_time() -> None:
    parser = Parser()
    trees = PackedTrees(parser)
    for _ in range(2):
        with pytest.raises(ValueError, match="a"):
            trees("a", b"wrong")
        assert trees("a", b"deep")
    assert len(parser.asked) == 4
