"""The rules that decided are named with their places, and tell the same decision as the engine gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.opa.tracer import OpaTracer
from broker.core.rulebook.load import read_rulebook
from broker.errors import NoDecision
from broker.model.rulebook import Revision, revision_id
from tests.policy.engine import RULEBOOK

pytestmark = pytest.mark.opa


def item(**subject: object) -> dict[str, object]:
    person = {
        "agency": "ems",
        "roles": ["paramedic"],
        "attributes": {"clearance": "red"},
        "purpose": "emergency-response",
    }
    return {
        "id": "1",
        "action": "deliver",
        "subject": person | subject,
        "topic": "crash-reports",
        "record": {
            "type": "gov.niem.crash-driver.v1",
            "agency": "highway-patrol",
            "labels": {
                "dataclassification": "amber",
                "datacategory": "",
                "dataregulation": "",
                "purposes": [],
                "releasableto": [],
            },
            "markings": ["criminal", "identifier", "medical", "operational", "pii", "unreviewed"],
        },
    }


async def test_the_rules_that_held_are_named_with_file_and_line(opa_binary: Path) -> None:
    revision = read_rulebook(RULEBOOK)
    trace = await OpaTracer(opa_binary).trace(revision, item())
    assert trace.output is not None
    assert trace.output["effect"] in {"release", "withhold"}
    for use in trace.rules:
        line = revision.files[use.file].decode().splitlines()[use.line - 1]
        assert use.rule.rsplit(".", 1)[-1] in line or line.startswith("} else")
    assert "entente.decision.decisions" in {use.rule for use in trace.rules}
    assert len(set(trace.rules)) == len(trace.rules)


async def test_the_same_question_has_the_same_trace(opa_binary: Path) -> None:
    revision, tracer = read_rulebook(RULEBOOK), OpaTracer(opa_binary)
    assert await tracer.trace(revision, item()) == await tracer.trace(revision, item())


async def test_rules_that_do_not_compile_are_no_decision(opa_binary: Path) -> None:
    files = {"entente/decision/decision.rego": b"package entente.decision\ndecisions := x"}
    with pytest.raises(NoDecision, match="cannot be made again"):
        await OpaTracer(opa_binary).trace(Revision(revision_id(files), files, False), item())
