"""Texts are made into values once, and never taken for one another."""

from __future__ import annotations

import pytest

from broker.core.audit.texts import Texts


def test_each_text_has_its_own_value_made_once() -> None:
    made: list[bytes] = []

    def make(text: bytes) -> int | None:
        made.append(text)
        return None if text == b"0" else int(text)

    texts = Texts(make, 10)
    for _ in range(3):
        assert [texts.get(text) for text in (b"1", b"2", b"0", b"12", b"1")] == [1, 2, None, 12, 1]
    assert made == [b"1", b"2", b"0", b"12"]


def test_it_forgets_beyond_its_limit() -> None:
    made: list[bytes] = []

    def make(text: bytes) -> bytes:
        made.append(text)
        return text

    texts = Texts(make, 2)
    for text in (b"a", b"b", b"c", b"c", b"a"):
        assert texts.get(text) == text
    assert made == [b"a", b"b", b"c", b"a"]


def test_what_cannot_be_made_is_tried_again() -> None:
    texts = Texts(int, 2)
    for _ in range(2):
        with pytest.raises(ValueError):
            texts.get(b"x")
