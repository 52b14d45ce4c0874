"""What publish refuses for types with markings, and that the refusal tells nothing of the document."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.redact.accept import MAX_DEPTH, _find_fault, check_document
from broker.errors import EntenteError, Reason

NOT_JSON = "it is not JSON in UTF-8"
INEXACT = "a number would lose precision"
TWICE = "names must be unique"
DEEP = "nested deeper than 64"


def nested(depth: int) -> bytes:
    """Arrays and objects by turns, `depth` of them."""
    document = b""
    for level in range(depth):
        document = b"[" + document + b"]" if level % 2 else b'{"k":' + (document or b"0") + b"}"
    return document


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", NOT_JSON),
        (b"{", NOT_JSON),
        (b"{'SECRET':1}", NOT_JSON),
        (b'{"SECRET":1,}', NOT_JSON),
        (b'{"SECRET":1} x', NOT_JSON),
        (b'\xef\xbb\xbf{"SECRET":1}', NOT_JSON),
        (b'{"SECRET":"\xff"}', NOT_JSON),
        (b'{"SECRET":"\xed\xa0\x80"}', NOT_JSON),
        (b'{"SECRET":"\\ud800"}', NOT_JSON),
        (b'{"\\udc00SECRET":1}', NOT_JSON),
        (b'{"SECRET":"a\nb"}', NOT_JSON),
        ('{"SECRET":1}'.encode("utf-16"), NOT_JSON),
        (b'{"SECRET":NaN}', NOT_JSON),
        (b'{"SECRET":-Infinity}', NOT_JSON),
        (b'{"SECRET":01}', NOT_JSON),
        (b'{"SECRET":1.}', NOT_JSON),
        (b'{"SECRET":1,"SECRET":1}', TWICE),
        (b'{"SECRET":1,"\\u0053ECRET":2}', TWICE),
        (b'[0,{"deep":[{"SECRET":1,"x":0,"SECRET":2}]}]', TWICE),
        (b'{"":1,"":2}', TWICE),
        (b'{"SECRET":18446744073709551616}', INEXACT),
        (b'{"SECRET":-9223372036854775809}', INEXACT),
        (b'{"SECRET":' + b"9" * 10_000 + b"}", INEXACT),
        (b'{"SECRET":-0}', INEXACT),
        (b'{"SECRET":1.0000000000000000001}', INEXACT),
        (b'{"SECRET":0.10000000000000001}', INEXACT),
        (b'{"SECRET":12345678901234567.5}', INEXACT),
        (b'{"SECRET":1e400}', INEXACT),
        (b'{"SECRET":-1e400}', INEXACT),
        (b'{"SECRET":1e-400}', INEXACT),
        (b'{"SECRET":1e-99999999999999999999}', INEXACT),
        (nested(MAX_DEPTH + 1), DEEP),
        (nested(5_000), DEEP),
        (b"[" * 1_000_000, DEEP),
    ],
)
def test_refused(data: bytes, problem: str) -> None:
    with pytest.raises(EntenteError) as caught:
        check_document(data)
    error = caught.value
    assert error.reason is Reason.CONTENT_INVALID
    assert problem in error.detail
    assert "SECRET" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None, "a parser's error would hold the document"


@pytest.mark.parametrize(
    "data",
    [
        b"0",
        b"null",
        b'""',
        b" [ ] ",
        b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}',
        b"18446744073709551615",
        b"-9223372036854775808",
        b"[1, 1.0, 1.10, 1e2, 1E+2, -0.0, 0.1, 1e-7, 5e-324, 1.7976931348623157e308, 123456789012.345]",
        b'"\\ud83d\\ude00 \\u0000"',
        b'"[[[[{{{{"',
        nested(MAX_DEPTH),
    ],
)
def test_accepted_and_parsed_as_redaction_parses_it(data: bytes) -> None:
    assert check_document(data) == orjson.loads(data)


def test_the_depth_limit_can_be_set() -> None:
    assert check_document(b"[[1]]", max_depth=2) == [[1]]
    with pytest.raises(EntenteError, match="deeper than 1 "):
        check_document(b"[[1]]", max_depth=1)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1))
def test_every_number_in_its_shortest_form_is_exact(number: float) -> None:
    data = orjson.dumps(number)
    assert orjson.dumps(check_document(data)) == data


_names = st.sampled_from(['"a"', '"\\u0022"', '"b"', '"\\u0061"', '"a\\""', '":"', '"\\\\"', '"\\\\\\""'])
_doubles = ["-0", "-0.0", "-0e1", "1.0", "1e2", "0.10000000000000001", "1234567890.12345678"]
_integers = ["1", "-1", "18446744073709551616", "9007199254740993", "-123456789012345", "1234567890123456"]
_texts: st.SearchStrategy[str] = st.one_of(
    _names,
    st.sampled_from([*_doubles, *_integers]),
    st.sampled_from(["null", "true", "false", '"\\u00e9"', '"1e5:-0"', '"{\\n"']),
    st.lists(st.deferred(lambda: _texts), max_size=3).map(lambda items: f"[{','.join(items)}]"),
    st.lists(st.tuples(_names, st.deferred(lambda: _texts)), max_size=4).map(
        lambda members: "{" + ",".join(f"{name}:{text}" for name, text in members) + "}"
    ),
)


@settings(max_examples=300, deadline=None)
@given(_texts, st.sampled_from(["", " ", "   "]))
def test_the_quick_look_lets_nothing_through_that_the_slow_one_finds(text: str, space: str) -> None:
    document = text.replace(":", f":{space}").replace(",", f"{space},{space}") + space
    try:
        check_document(document.encode())
        problem = None
    except EntenteError as error:
        problem = error.detail
    assert problem == _find_fault(document)


def test_brackets_in_texts_are_no_nesting() -> None:
    data = orjson.dumps(["[{" * MAX_DEPTH, [["["]]])
    assert check_document(data) == orjson.loads(data)
