"""`entente explain`: what it asks for each way of asking, and what it shows of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from broker.cli import explain as command
from broker.cli.app import run
from protos.entente.v1 import rulebook_pb2 as pb

WHO = ("--agency", "ems", "--purpose", "rescue", "--topic", "crashes")
QUESTION = pb.ExplainQuestion(agency="ems", purpose="rescue", topic="crashes")
ANSWER = pb.Explanation(public=pb.PublicExplanation(reasons=["role-unregistered"], ask="desk@alpha.example"))
LABELS = ("--label", "dataclassification=amber", "--label", "dataregulation=gdpr, hipaa")
KIND = pb.ExplainRecordKind(
    owner="patrol", type="crash.v1", classification="amber", regulations=["gdpr", "hipaa"]
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[pb.ExplainRequest]:
    """What an exchange is asked that always gives one answer."""
    requests: list[pb.ExplainRequest] = []

    def call(given: Any, use: Callable[[Any], Sequence[pb.Explanation]]) -> Sequence[pb.Explanation]:
        def explain(request: pb.ExplainRequest) -> Sequence[pb.Explanation]:
            requests.append(request)
            return [ANSWER]

        return use(SimpleNamespace(rulebook=SimpleNamespace(explain=explain)))

    monkeypatch.setattr(command, "call", call)
    return requests


def question(**more: Any) -> pb.ExplainRequest:
    found = pb.ExplainQuestion(**more)
    found.MergeFrom(QUESTION)
    return pb.ExplainRequest(question=found)


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("r-1",), pb.ExplainRequest(reference="r-1")),
        (("a/7",), pb.ExplainRequest(decision=pb.ExplainDecision(instance="a", index=7))),
        (("a/7#2",), pb.ExplainRequest(decision=pb.ExplainDecision(instance="a", index=7, number=2))),
        (WHO, question()),
        (
            (*WHO, "--role", "medic", "--attribute", "clearance=red", "--at", "sha256:1"),
            question(roles=["medic"], attributes={"clearance": "red"}, revision="sha256:1"),
        ),
        (
            (*WHO, "--record", "//patrol/x", "7"),
            question(named=pb.ExplainRecord(source="//patrol/x", id="7")),
        ),
        ((*WHO, "--owner", "patrol", "--type", "crash.v1", *LABELS), question(kind=KIND)),
    ],
)
def test_each_way_of_asking_is_its_request(
    arguments: tuple[str, ...],
    request_: pb.ExplainRequest,
    asked: list[pb.ExplainRequest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["explain", *arguments, "-o", "json"]) == 0
    assert asked == [request_]
    told = {"reasons": ["role-unregistered"], "ask": "desk@alpha.example"}
    assert told in (found := json.loads(capsys.readouterr().out), *(found if isinstance(found, list) else ()))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "needs a reference, a decision, or --agency, --purpose and --topic"),
        (WHO[:4], "needs a reference, a decision, or --agency, --purpose and --topic"),
        ((*WHO, "--attribute", "clearance"), "--attribute: clearance: write NAME=VALUE"),
        ((*WHO, "--owner", "patrol"), "a kind of record needs --owner, --type and"),
    ],
)
def test_what_is_missing_is_said_and_nothing_asked(
    arguments: tuple[str, ...],
    told: str,
    asked: list[pb.ExplainRequest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["explain", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert asked == []
