"""Tables: whatever an exchange or a file says, the terminal does nothing but show it."""

from __future__ import annotations

import pytest

from connectors.cli.output import OutputFormat, show_all, show_one

EVIL = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066"
ACTS = {"\x1b", "\x07", "\x9b", "\u202e", "\u2066"}
"""What of it a terminal would obey, or would let turn the rest of the line around."""

VALUES = {
    "text": EVIL,
    "list": [EVIL, "plain"],
    "object": {EVIL: [EVIL]},
    "nested": [{"a": EVIL}],
}


def test_nothing_in_a_table_reaches_into_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_one(OutputFormat.TABLE, VALUES)
    show_all(OutputFormat.TABLE, tuple(VALUES), [VALUES])
    shown = capsys.readouterr().out
    assert "plain" in shown
    assert "202e" in shown
    assert not ACTS & set(shown)


@pytest.mark.parametrize("form", [OutputFormat.JSON, OutputFormat.JSONL])
def test_json_keeps_every_character_and_controls_nothing(
    form: OutputFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    show_one(form, VALUES)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert "\u202e" in shown, "JSON is for programs: only what a terminal obeys is escaped"
