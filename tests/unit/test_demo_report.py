"""What `entente demo` shows of its story: tables by itself, and no payload's tricks on the terminal."""

from __future__ import annotations

import pytest

from broker.cli.app import run
from broker.core.simulate.model import (
    Combination,
    Detail,
    Outcome,
    Part,
    RecordKind,
    Row,
    Shift,
    Simulation,
)
from broker.demo.revocation import revocation_faults
from broker.demo.samples import TOPICS
from broker.demo.story import PRINCIPALS, Received, Revocation, Story
from broker.model.decision import Effect
from broker.model.labels import Labels
from broker.model.principal import SubjectClass


def simulation(agency: str = "transport", stored_after: int = 0) -> Simulation:
    row = Row(
        Part.RECORDED,
        Combination(
            SubjectClass(agency, ("analyst",), (), "road-safety-statistics"),
            RecordKind("crash-reports", "gov.niem.crash-driver.v1", "highway-patrol", Labels("am\x1bber")),
        ),
        Shift.LOSES,
        Outcome(Effect.RELEASE),
        Outcome(Effect.WITHHOLD),
        (Detail("marking pii", "keep", None),),
        handed_out=1,
        stored=1,
        stored_before=1,
        stored_after=stored_after,
    )
    return Simulation("sha256:1", "sha256:2", None, (row,), (), {})


def revocation(**changes: object) -> Revocation:
    values: dict[str, object] = {
        "simulation": simulation(),
        "took_ms": 123,
        "ended": "POLICY_DENIED",
        "refused": "TOPIC_NOT_FOUND",
    }
    return Revocation(**(values | changes))  # type: ignore[arg-type]


def story() -> Story:
    received = {(principal, topic): Received(whole=1111) for principal in PRINCIPALS for topic in TOPICS}
    views = {"ems": {"licence": "A1" * 40}, "transport": {"licence": "\u202eZ"}}
    published = dict.fromkeys(TOPICS, 1)
    return Story("embedded", published, received, views, revocation(), {"delivery": 2}, 1.0, ())


def test_tables_are_shown_by_themselves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("broker.demo.run.run_demo", lambda *_, **__: story())
    assert run(["demo"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "Who received what",
        "1111 whole",
        "The crash report as two agencies see it",
        "What revoking an agreement would do, before it is done",
        "records → nothing",
        "123 ms after the call nothing could be released under it any more",
        "What each received is what the agreements promise",
    ):
        assert text in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_a_revocation_that_goes_wrong_is_a_fault() -> None:
    assert revocation_faults(revocation()) == []
    for changed in (
        revocation(simulation=simulation("ems")),
        revocation(simulation=simulation(stored_after=1)),
        revocation(ended=None),
        revocation(refused=None),
    ):
        assert len(revocation_faults(changed)) == 1
