"""Reading what is to be published: one document, arrays, lines; strict, so that nothing changes on the way."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cli.assemble import Template
from broker.cli.difference import compare
from broker.cli.documents import Document, Fault, read_documents, select, select_text
from broker.core.redact.paths import parse_path
from connectors.cli.text import one_line, printable, to_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def read(text: str | bytes, records: str | None = None) -> list[Document | Fault]:
    """All documents of a text."""
    content = text.encode() if isinstance(text, str) else text
    return list(read_documents(io.BytesIO(content), parse_path(records) if records else None))


def values(found: list[Document | Fault]) -> list[object]:
    """The values, all being documents."""
    assert all(isinstance(each, Document) for each in found)
    return [each.value for each in found if isinstance(each, Document)]


def test_one_document_keeps_its_very_bytes() -> None:
    text = '{ "a" : 1.10,\n  "b": [1, 2] }'
    (found,) = read(text + "\n")
    assert isinstance(found, Document)
    assert found.content == text.encode()


def test_an_array_stands_for_its_elements() -> None:
    assert values(read('[{"a": 1}, {"a": 2}]')) == [{"a": 1}, {"a": 2}]


def test_lines_are_read_one_by_one_also_with_blank_ones() -> None:
    found = read('\n{"a": 1}\n\n{"a": 2}\n[3, 4]')
    assert values(found) == [{"a": 1}, {"a": 2}, 3, 4]
    assert [each.place for each in found] == [
        "document 1",
        "document 2",
        "document 3, record 1",
        "document 3, record 2",
    ]


def test_lines_come_before_the_input_ends() -> None:
    class Endless(io.BytesIO):
        """A pipe that goes on for ever; reading it whole would fail."""

        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("the whole input was asked for")

    documents = read_documents(Endless(b'{"a": 1}\n{"a": 2}\n'), None)
    assert isinstance(next(documents), Document)


def test_records_are_selected_inside_documents() -> None:
    text = '{"v": [{"i": 1}, {"i": 2}], "w": {"x": [[1], [2]]}}'
    assert values(read(text, "$.v")) == values(read(text, "$.v[*]")) == [{"i": 1}, {"i": 2}]
    assert values(read(text, "$.w.x[*]")) == [1, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "names must be unique"),
        ('{"a": 1.0000000000000000001}', "lose precision"),
        ("[" * 65 + "]" * 65, "nested deeper"),
        (b'{"a": "\xff"}', "not JSON"),
    ],
)
def test_what_would_change_or_is_no_json_is_a_fault(text: str | bytes, problem: str) -> None:
    (found,) = read(text)
    assert isinstance(found, Fault)
    assert problem in found.problem


def test_a_path_that_selects_nothing_is_a_fault() -> None:
    (found,) = read('{"a": 1}', "$.b")
    assert isinstance(found, Fault)
    assert "$.b selects nothing" in found.problem


@given(VALUES)
@settings(max_examples=60)
def test_each_element_is_sent_with_its_own_value(value: object) -> None:
    for found in read(json.dumps([value, {"x": value}])):
        assert isinstance(found, Document)
        assert json.loads(found.content) == found.value


def test_selection_passes_over_what_is_not_there() -> None:
    assert select({"a": [{"b": 1}, {"c": 2}, 3]}, parse_path("$.a[*].b")) == [1]


@pytest.mark.parametrize("value", [{}, {"a": None}, {"a": True}, {"a": ""}, {"a": 1.5}, {"a": {}}])
def test_an_id_is_one_string_or_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"\$\.a"):
        select_text(value, parse_path("$.a"))


def test_a_template_fills_a_record_from_its_document() -> None:
    template = Template(
        type="t.v1",
        source="//ems/x",
        labels={"dataclassification": "green"},
        ids=(parse_path("$.a"), parse_path("$.b")),
        subject=parse_path("$.a"),
        partition_key="fixed",
        time=parse_path("$.t"),
    )
    content = b'{"a":"x","b":7,"t":"2026-01-31T12:00:00Z"}'
    record = template.record(Document("here", json.loads(content), content))
    assert (record.id, record.text_data) == ("x/7", content.decode())
    assert record.attributes["subject"].ce_string == "x"
    assert record.attributes["partitionkey"].ce_string == "fixed"
    assert record.attributes["time"].ce_timestamp.seconds == 1_769_860_800


def test_the_difference_names_what_is_gone_and_what_reads_otherwise() -> None:
    original = {"a": 1, "b": {"c": "x", "d": "y"}, "e": [{"f": 1}, {"f": 2}], "g": []}
    shown = {"b": {"c": "****", "d": "y"}, "e": [{"f": 1}], "g": []}
    assert compare(original, shown) == (["$.a", "$.e[*].f"], ["$.b.c"])
    assert compare(original, original) == ([], [])


@given(VALUES)
@settings(max_examples=60)
def test_json_text_is_safe_and_true(value: object) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text)


def test_half_a_surrogate_pair_is_still_shown() -> None:
    assert to_json({"a": "\ud800"}) == '{"a":"\\ud800"}'


def test_text_for_a_terminal_has_no_control_characters() -> None:
    assert printable("a\x1b[0m\u202eb") == "a\\x1b[0m\\u202eb"
    assert one_line("a\n  b\tc") == "a b c"
