"""A simulation in words and on a page: what is told together, in which order, and other people's texts as texts."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from broker.cli.rulebook.simulate import show
from broker.cli.rulebook.simulated import groups_of, labels_in_short, lines_of
from broker.cli.rulebook.simulated_page import simulation_page
from broker.core.simulate.model import (
    Combination,
    Detail,
    Example,
    Outcome,
    Part,
    Reach,
    Row,
    Shift,
    Simulation,
    Tally,
    Volume,
)
from broker.model.decision import Effect
from connectors.cli.output import OutputFormat
from tests.fakes.simulated import MEDIC, kind

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m'\""
RECORDS, NOTHING = Outcome(Effect.RELEASE), Outcome(Effect.WITHHOLD)
LOST = Row(
    Part.RECORDED, Combination(MEDIC, kind()), Shift.LOSES, RECORDS, NOTHING, (), 7, 2, 10, 10, 0,
    Example(HOSTILE, HOSTILE, 0),
)  # fmt: skip
OTHER_ROLE = replace(MEDIC, roles=("dispatcher", "paramedic"))
GAINED = replace(
    LOST, combination=Combination(MEDIC, kind("red")), shift=Shift.GAINS, before=NOTHING, after=RECORDS
)
SEEN = replace(
    LOST,
    combination=Combination(MEDIC, kind("green")),
    shift=Shift.DIFFERS,
    after=RECORDS,
    details=(Detail("marking pii", "keep", None), Detail("recorded from", None, "2026-01-01T00:00:00Z")),
)
VOLUME = Volume(7, 2, 10, {Part.RECORDED: Tally(2, 1, 0, 1, 0), Part.WHAT_IF: Tally(0, 0)}, cut=True)


def simulation(*rows: Row) -> Simulation:
    reach = Reach("highway-patrol", "ems", "crash-reports", 7, 0, 10, 0)
    return Simulation("sha256:1", "sha256:2", None, rows, (reach,), {"highway-patrol": VOLUME}, (HOSTILE,))


def test_classes_for_which_the_same_changes_are_told_together() -> None:
    other = replace(
        LOST, combination=Combination(OTHER_ROLE, kind()), handed_out=1, withheld=0, stored_before=4
    )
    (group,) = groups_of([LOST, other])
    assert group.who == "ems for emergency-response; paramedic, dispatcher+paramedic; clearance red"
    assert group.what == "gov.niem.crash-driver.v1 of highway-patrol on crash-reports"
    assert (group.recorded, group.stored) == ("8 handed out, 2 withheld", "10 → 0"), (
        "the same records count once"
    )
    assert group.change == "records → nothing"


def test_gains_come_first_and_differences_last() -> None:
    groups = groups_of([LOST, SEEN, GAINED])
    assert [group.rows[0].shift for group in groups] == [Shift.GAINS, Shift.LOSES, Shift.DIFFERS]
    assert groups[2].change == "marking pii: keep → none; recorded from: none → 2026-01-01T00:00:00Z"


def test_labels_are_short_and_whole() -> None:
    assert labels_in_short(kind().labels) == "amber"
    assert labels_in_short(kind("red", releasableto=("ems", "transport")).labels) == (
        "red (releasable to ems+transport)"
    )


def test_what_was_left_out_is_said() -> None:
    assert lines_of(simulation(LOST)) == [
        "recorded: 1 of 2 combinations decided: 0 gain, 1 lose, 0 differ",
        "taken from 7 deliveries and 2 withheld decisions of the ledger, and 10 stored records",
        "more was recorded or stored than is looked at: highway-patrol",
        HOSTILE,
    ]
    untold = replace(VOLUME, tallies={Part.RECORDED: Tally(None, None, 0, 1, 0)}, stored=None, cut=False)
    told = replace(simulation(LOST), volumes={"highway-patrol": untold}, notes=())
    assert lines_of(told) == [
        "recorded: 0 gain, 1 lose, 0 differ",
        "taken from 7 deliveries and 2 withheld decisions of the ledger",
    ]


@pytest.mark.parametrize("form", OutputFormat)
def test_others_texts_do_nothing_to_a_terminal(
    form: OutputFormat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show(form, simulation(LOST, GAINED, SEEN))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "ems" in shown
    assert form is not OutputFormat.TABLE or "\u202e" not in shown


def test_nothing_that_changes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show(OutputFormat.TABLE, replace(simulation(), reaches=()))
    assert capsys.readouterr().out.startswith("nothing changes for anybody\n")
    assert "nothing changes" in _texts(simulation_page(replace(simulation(), reaches=()), "x", 0))


def test_the_page_names_who_gets_what_and_runs_nothing() -> None:
    page = simulation_page(simulation(LOST, GAINED, SEEN), HOSTILE, 0)
    text = _texts(page)
    for words in ("Who would receive more", "Who would receive less", "Who would see something differently"):
        assert words in text
    assert "<script>" not in page and "\u202e" not in page and "\x1b" not in page
    assert "<script>alert(1)</script>" in text, "shown, and not run"
    assert "default-src &#x27;none&#x27;" in page


def _texts(page: str) -> str:
    class Texts(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found = ""

        def handle_data(self, data: str) -> None:
            self.found += data

    texts = Texts()
    texts.feed(page)
    return texts.found
