"""Field paths: the permitted part of RFC 9535, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.redact.paths import MAX_SEGMENTS, PathError, Wildcard, format_path, parse_path

EACH = Wildcard.ELEMENTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$", ()),
        ("$.a", ("a",)),
        ("$._a1.B", ("_a1", "B")),
        ("$.größe", ("größe",)),
        ("$.\U0001f600", ("\U0001f600",)),
        ("$.persons[*].name", ("persons", EACH, "name")),
        ("$[*]", (EACH,)),
        ("$['nc:Person']", ("nc:Person",)),
        ('$["nc:Person"]', ("nc:Person",)),
        ("$['']", ("",)),
        ("$['it\\'s']", ("it's",)),
        ('$["it\'s"]', ("it's",)),
        ("$['say \"x\"']", ('say "x"',)),
        ('$["\\b\\f\\n\\r\\t\\/\\\\\\""]', ('\b\f\n\r\t/\\"',)),
        ("$['\\u0041\\u00e9']", ("Aé",)),
        ("$['\\uD83D\\uDE00']", ("\U0001f600",)),
        ("$ .a\n[ 'b'\t] [ * ]", ("a", "b", EACH)),
        ("$['a']['[*]']['*']", ("a", "[*]", "*")),
    ],
)
def test_permitted_paths(text: str, expected: tuple[object, ...]) -> None:
    assert parse_path(text) == expected


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("a", 0),
        (" $", 0),
        ("$ ", 2),
        ("$a", 1),
        ("$.", 2),
        ("$. a", 2),
        ("$.1a", 2),
        ("$.a-b", 3),
        ("$.nc:Person", 4),
        ("$..a", 1),
        ("$.a..b", 3),
        ("$.*", 1),
        ("$.[*]", 2),
        ("$[0]", 2),
        ("$[-1]", 2),
        ("$[1:2]", 2),
        ("$[:]", 2),
        ("$[?@.a]", 2),
        ("$[a]", 2),
        ("$[", 2),
        ("$[]", 2),
        ("$[*", 3),
        ("$[*,*]", 3),
        ("$['a','b']", 5),
        ("$['a'", 5),
        ("$['a", 4),
        ("$['a\\\"']", 4),
        ('$["a\\\'"]', 4),
        ("$['\\x41']", 3),
        ("$['\\u12']", 3),
        ("$['\\u00g0']", 3),
        ("$['\\ud800']", 3),
        ("$['\\udc00']", 3),
        ("$['\\ud800\\u0041']", 3),
        ("$['\ud800']", 3),
        ("$.\ud800", 2),
        ("$['a\nb']", 4),
        ("$.a" + ".b" * MAX_SEGMENTS, 1 + 2 * MAX_SEGMENTS),
    ],
)
def test_everything_else_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(PathError) as caught:
        parse_path(text)
    assert caught.value.position == position
    assert f"character {position}:" in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.just(EACH) | st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_what_is_formatted_is_read_back(segments: list[str | Wildcard]) -> None:
    text = format_path(segments)
    assert parse_path(text) == tuple(segments)
    assert text.isprintable()


def test_formatted_paths_are_short_where_they_can_be() -> None:
    assert format_path(("persons", EACH, "nc:name", "it's")) == "$.persons[*]['nc:name']['it\\'s']"
