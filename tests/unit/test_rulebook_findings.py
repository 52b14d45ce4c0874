"""Findings: one line each, with the line of the file where that can be told."""

from __future__ import annotations

import pytest

from broker.core.rulebook.findings import Finding, located
from broker.model.data_file import DataRefused, lines_of

TOPICS = b"""# topics
crash-reports:
  steward: ems
  accepts:
    - a.b.v1
    - c.d.v1

more: {steward: x,
  accepts: [y]}
"""


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a/b.rego:7: is wrong; correct it", Finding("a/b.rego", 7, "is wrong", "correct it")),
        ("manifest.yaml: x: is wrong: y; z; do", Finding("manifest.yaml", None, "x: is wrong: y; z", "do")),
        (
            "words without a place",
            Finding("rulebook", None, "words without a place", "words without a place"),
        ),
    ],
)
def test_a_line_is_read_as_it_was_written(text: str, finding: Finding) -> None:
    assert Finding.read(text) == finding
    assert str(finding) == text or finding.file == "rulebook"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("crash-reports.steward: 'x' is nobody", 3),
        ("crash-reports.accepts.1: 'x' is nothing", 6),
        ("crash-reports.partitions: is missing", 2),
        ("more.accepts: is empty", 9),
        ("$.more.steward: is no JSON value", 8),
        ("line 4: key 'x' stands twice", 4),
        ("is wrong as a whole", 2),
    ],
)
def test_the_line_of_a_data_file_s_key_is_found(said: str, line: int) -> None:
    path = "data/topics/data.yaml"
    (found,) = located([Finding(path, None, said, "do")], {path: TOPICS})
    assert found.line == line
    assert "line 4" not in found.what


def test_what_has_a_line_or_is_no_data_stays_as_it_is() -> None:
    findings = [
        Finding("a.yaml", 3, "x: y", "z"),
        Finding("b.yaml", None, "x", "z"),
        Finding("c.rego", None, "x", "z"),
    ]
    assert list(located(findings, {"a.yaml": b"x: 1", "c.rego": b"x"})) == findings
    broken = [Finding("a.yaml", None, "is not UTF-8", "z")]
    assert list(located(broken, {"a.yaml": b"\xff"})) == broken


def test_lines_are_those_of_keys_and_elements() -> None:
    assert lines_of(b"\n- a: 1\n  b:\n    [2,\n     3]\n") == {
        (): 2,
        (0,): 2,
        (0, "a"): 2,
        (0, "b"): 3,
        (0, "b", 0): 4,
        (0, "b", 1): 5,
    }
    assert lines_of(b"") == {(): 1}
    with pytest.raises(DataRefused):
        lines_of(b"a: 1\na: 2")
