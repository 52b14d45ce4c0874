"""Data files: what is read, what is refused, and that JSON and YAML are held to the same."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.data_file import DataRefused, lines_of, parse_yaml
from broker.model.plain_yaml import read_yaml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\na: 2\n", "line 2: key 'a' stands twice"),
        (b"a: &x [1]\nb: *x\n", "line 2: aliases"),
        (b"1: a\n", "line 1: a key is not a string"),
        (b"on: a\n", "line 1: a key is not a string"),
        (b"a: 2026-01-01\n", "line 1: is no JSON value"),
        (b"a: .inf\n", "line 1: is not a finite number"),
        (b"a: 9007199254740993\n", "line 1: is a number that loses precision"),
        (b"a: !!binary aGk=\n", "line 1: tags"),
        (b"a: !!python/object:x {}\n", "line 1"),
        (b"a: !!set {x}\n", "line 1: tags"),
        (b"<<: {a: 1}\n", "line 1: a key is not a string"),
        (b"a: 1\n---\nb: 2\n", "line 2"),
        (b"a: [\n", "line 2"),
        (b"a: \x00", "is not YAML"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 5000, "."),
        (b"a: " + b"[" * 40 + b"]" * 40, "nested deeper"),
    ],
)
def test_data_that_could_be_read_in_two_ways_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(DataRefused, match=said) as refused:
        parse_yaml(content)
    assert "\n" not in str(refused.value)


def test_plain_data_is_read_as_it_stands() -> None:
    assert parse_yaml(b'a: [1, 2.5, true, null, "on", x]\nb: {c: d}\n') == {
        "a": [1, 2.5, True, None, "on", "x"],
        "b": {"c": "d"},
    }


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        [
            "on",
            "1",
            "1e3",
            "~",
            "<<",
            "=",
            "2026-01-01",
            "0x1",
            "null",
            "a: b",
            "\u2028",
            "\ufeff",
            "&x",
            "*x",
            "!t",
        ]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, derandomize=True)
@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), st.sampled_from([None, True, False]))
def test_what_was_written_is_read(value: dict[str, object], flow: bool | None) -> None:
    written = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False)
    assert exactly(parse_yaml(written.encode())) == exactly(value)


@settings(max_examples=200, derandomize=True)
@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), st.booleans())
def test_json_is_read_as_yaml_would_be(value: dict[str, object], escaped: bool) -> None:
    """Or it is refused, as both would have to agree: YAML has other numbers, and other breaks of lines."""
    written = json.dumps(value, ensure_ascii=escaped, indent=1 if escaped else None)
    try:
        otherwise = read_yaml(written)
    except DataRefused:
        return
    assert exactly(parse_yaml(written.encode())) == exactly(otherwise)


def exactly(value: object) -> str:
    """1 is not true, nor 1.0."""
    return repr(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1,\n "a": 2}', "line 2: key 'a' stands twice"),
        (b'{"a": 9007199254740993}', "line 1: is a number that loses precision"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "line 1: is a number that loses precision"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "line 1: nested deeper"),
        (b'{"a": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5001, "line 1: nested deeper"),
        (b'{"a": 1:' + b"1:" * 100 + b"1}", "line 1: is a number that loses precision"),
        (b'{"a": ', "line 2"),
    ],
)
def test_json_is_held_to_the_same(content: bytes, said: str) -> None:
    with pytest.raises(DataRefused, match=said) as refused:
        parse_yaml(content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("depth", [1, 31, 32])
def test_as_deep_as_is_permitted(depth: int) -> None:
    text = "[" * depth + "1" + "]" * depth
    assert parse_yaml(text.encode()) == json.loads(text)
    assert parse_yaml(('{"a": ' + text[1:-1] + "}").encode()) == {"a": json.loads(text[1:-1])}


def test_only_the_lines_that_are_wanted_are_told() -> None:
    content = b"a:\n  x: 1\nb:\n  x: [1,\n   2]\n"
    assert lines_of(content, lambda place: len(place) < 2) == {(): 1, ("a",): 1, ("b",): 3}
    assert lines_of(content, lambda place: place[0] == "b" and len(place) != 2) == {(): 1, ("b",): 3}
