"""Files of a rulebook that could show something else than they say."""

from __future__ import annotations

import pytest

from broker.core.rulebook.texts import check_texts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"package x\n\xff", "a.rego:2: is not UTF-8; save it as UTF-8"),
        ("x := 1 # \u202e tfel".encode(), "a.rego:1: holds the invisible character U+202E; remove it"),
        (b"x\n\ny \x1b[2J", "a.rego:3: holds the invisible character U+001B; remove it"),
        (b"x\x00", "a.rego:1: holds the invisible character U+0000; remove it"),
    ],
)
def test_what_does_not_read_as_it_runs_is_found(content: bytes, said: str) -> None:
    assert list(check_texts({"a.rego": content, "b.rego": b"package b\n"})) == [said]


def test_texts_in_any_writing_are_good() -> None:
    good = "\tname: Straße, شرطة, 警察\r\n\n".encode()
    assert list(check_texts({"data/agencies/x/data.yaml": good})) == []
