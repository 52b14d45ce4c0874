"""Canonical JSON: RFC 8785's own examples, and the quick way against the library on whatever JSON there is."""

from __future__ import annotations

import math
import struct

import pytest
import rfc8785
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.core.ledger.canonical import canonical, canonical_each
from broker.model.ledger import JsonValue

PLENTY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Characters among which the quick way could go wrong: digits and what surrounds numbers, escapes, surrogates' neighbours.
AWKWARD = '0123456789.eE-+:,[]{}"\\/ \x00\x08\x1f\x7f\u0080\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff'
strings = st.text(st.sampled_from(AWKWARD), max_size=24) | st.text(max_size=8)
integers = (
    st.integers() | st.integers(-(2**65), 2**65) | st.sampled_from([2**53 - 1, 2**53, 1 - 2**53, -(2**53)])
)
floats = st.floats() | st.floats(-1e17, 1e17) | st.integers(-(2**60), 2**60).map(float)
scalars = st.none() | st.booleans() | integers | floats | strings
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5),
    max_leaves=20,
)


def form_of(dumps: object, value: JsonValue) -> bytes | None:
    """The canonical form, or None if there is none."""
    assert callable(dumps)
    try:
        form = dumps(value)
    except ValueError:
        return None
    assert isinstance(form, bytes)
    return form


@PLENTY
@given(documents)
@example([1.0])
@example([-0.0])
@example({"a": 1e16})
@example([[1, 100000, 0], [2, 10**15, 0]])
@example([10**16 - 1])
@example([math.nan, None])
@example({"a": [None, {"b": math.inf}]})
@example(-math.inf)
@example({"a:1.5": "[2e5", "b": ",1.0"})
@example(["a" * 15 + "1" * 20])
@example({"\ue000": 1, "\U00010000": 2, "\uffff": 3})
@example("\ud800")
@example({"\udfff": 1})
@example([2**64, None])
def test_both_ways_have_one_form(value: JsonValue) -> None:
    assert form_of(canonical, value) == form_of(rfc8785.dumps, value)


@PLENTY
@given(st.lists(st.lists(st.integers(0, 2**54), max_size=4), max_size=40))
def test_long_lists_of_numbers(value: JsonValue) -> None:
    assert form_of(canonical, value) == form_of(rfc8785.dumps, value)


@PLENTY
@given(st.lists(documents, max_size=4))
@example([1, 2])
@example([1.0, "a"])
@example([None, math.nan])
@example([{"a": 1}, 2**53])
def test_several_values_have_the_forms_that_each_has_alone(values: list[JsonValue]) -> None:
    alone = [form_of(canonical, value) for value in values]
    if None in alone:
        with pytest.raises(ValueError, match="no canonical JSON form"):
            canonical_each(values)
    else:
        assert canonical_each(values) == alone


@PLENTY
@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2), st.booleans())
def test_lone_surrogates_are_refused(text: str, key: bool) -> None:
    with pytest.raises(ValueError, match="no canonical JSON form"):
        canonical({text: 1} if key else ["a", text])


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, [math.nan], {"a": [1, {"b": -math.inf}]}, 2**53, -(2**53), [2**64], [-(2**65)]],
)
def test_numbers_without_a_form_are_refused(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="no canonical JSON form"):
        canonical(value)


def test_what_is_no_json_is_refused() -> None:
    for value in ({1: 2}, {"a": {1, 2}}, [object()], [b"bytes"]):
        with pytest.raises(ValueError, match="no canonical JSON form"):
            canonical(value)  # type: ignore[arg-type]


def test_the_example_of_rfc_8785() -> None:
    """§3.2.2 to §3.2.4."""
    value: JsonValue = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(value) == expected.encode()


def test_keys_are_sorted_as_rfc_8785_asks() -> None:
    """§3.2.3: by UTF-16 code units, so U+1F600 comes before U+FB33."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    expected = "{" + ",".join(f'"{key}":0' for key in ordered) + "}"
    assert canonical(dict.fromkeys(keys, 0)) == expected.encode()


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555555", "333333333.3333333"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_of_rfc_8785(bits: str, text: str) -> None:
    """Appendix B, alone and inside an array."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()
    assert canonical([number]) == f"[{text}]".encode()
