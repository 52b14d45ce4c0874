"""Reading answers: strict on its own, whatever the revision's schema lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
import pytest

from broker.adapters.opa.answers import AnswerReader
from broker.errors import NoDecision, RulebookRefused
from broker.model.decision import Effect
from broker.model.rulebook import Revision
from tests.fakes.malformed import MALFORMED
from tests.fakes.rulebook import output, scripted_rulebook

PLAIN = scripted_rulebook({})


def reader(schema: object) -> AnswerReader:
    files = {**PLAIN.files, "schemas/decision.schema.json": orjson.dumps(schema)}
    return AnswerReader(Revision(PLAIN.id, files, time_dependent=False))


def document(outputs: Sequence[object]) -> dict[str, object]:
    provenance = {"bundles": {"rulebook.tar.gz": {"revision": PLAIN.id}}}
    return {"result": orjson.loads(orjson.dumps(outputs)), "provenance": provenance}


@pytest.mark.parametrize("outputs", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_schema_that_permits_all_loosens_nothing(outputs: Sequence[Mapping[str, object]]) -> None:
    answer = document([{**found, "id": "1"} for found in outputs])
    assert reader({}).read(answer, {"1"}) == {}
    assert reader(True).read(answer, {"1"}) == {}


def test_a_schema_that_permits_less_narrows() -> None:
    narrow = reader({"properties": {"effect": {"const": "withhold"}}})
    answer = document([output(id="1", effect="release"), output(id="2")])
    assert narrow.read(answer, {"1", "2"}).keys() == {"2"}


def test_equal_outputs_share_one_decision_and_different_ones_do_not() -> None:
    strict = reader({})
    outputs = [
        output(id="1", effect="release"),
        output(id="2", effect="release"),
        output(id="3", effect="notice"),
    ]
    found = strict.read(document(outputs), {"1", "2", "3"})
    again = strict.read(document(outputs), {"1", "2", "3"})
    assert found["1"] is found["2"] is again["1"]
    assert [found[key].effect for key in "123"] == [Effect.RELEASE, Effect.RELEASE, Effect.NOTICE]


@pytest.mark.parametrize(
    "answer", [None, [], "x", {}, {"result": []}, {"result": [], "provenance": {"bundles": []}}]
)
def test_what_is_no_answer_of_this_revision_gives_no_decision(answer: object) -> None:
    with pytest.raises(NoDecision):
        reader({}).read(answer, {"1"})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "x"},
        {"$ref": "http://schemas.example/x"},
        {"$ref": "file:///etc/passwd"},
        {"pattern": "(?=a)b"},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: object) -> None:
    with pytest.raises(RulebookRefused, match=r"^schemas/decision\.schema\.json: "):
        reader(schema)
