"""Who receives what under the default rulebook: the YAML cases, and what holds of every output."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from broker.adapters.opa import OpaTrials
from broker.core.rulebook.cases import Case, read_cases
from broker.core.rulebook.cases.run import Outcome, run_cases
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.registry import parse_registry
from broker.model.decision import Effect
from tests.policy.engine import RULEBOOK, Output, decide

pytestmark = pytest.mark.opa

DEFAULT = read_rulebook(RULEBOOK)
CASES = read_cases(DEFAULT, parse_registry(DEFAULT)).cases

ODD_ITEMS: list[Any] = [
    None,
    7,
    "text",
    [],
    {},
    {"id": "odd"},
    {"id": 7, "action": "deliver"},
    {"action": ["deliver"]},
]


@pytest.fixture(scope="module")
def outputs(opa_binary: Path) -> dict[str, Output]:
    """All cases in one batch, by id."""
    return {output["id"]: output for output in decide(opa_binary, [case.item for case in CASES])}


@pytest.fixture(scope="module")
def outcomes(opa_binary: Path) -> Mapping[str, Outcome]:
    """All cases as the broker runs them, by id."""

    async def run() -> list[Outcome]:
        trial = await OpaTrials(opa_binary).start(DEFAULT)
        try:
            return await run_cases(trial, CASES)
        finally:
            await trial.close()

    return {str(outcome.case.item["id"]): outcome for outcome in asyncio.run(run())}


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(json.loads((RULEBOOK / "schemas/decision.schema.json").read_text()))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.item['id']}: {case.title}" for case in CASES])
def test_case(
    case: Case,
    outcomes: Mapping[str, Outcome],
    outputs: dict[str, Output],
    schema: jsonschema_rs.Draft7Validator,
) -> None:
    output = outputs[str(case.item["id"])]

    assert outcomes[str(case.item["id"])].differences == ()
    assert output["reasons"], "an output says why"
    assert output["effect"] != "withhold" or not output["obligations"]
    schema.validate(output)


def test_the_cases_that_leave_nothing_out_are_inputs_as_the_schema_has_them() -> None:
    validator = jsonschema_rs.Draft7Validator(
        json.loads((RULEBOOK / "schemas/input.schema.json").read_text())
    )
    whole = [
        case.item
        for case in CASES
        if case.file == "cases/sample-exchange.yaml" or case.file.endswith("/agreements.yaml")
    ]
    others = [
        case.item for case in CASES if case.item["id"] in ("cases/publishing.yaml#1", "cases/auditing.yaml#1")
    ]
    subscribing = [case.item for case in CASES if case.item["id"] == "cases/subscribing.yaml#1"]
    permitted = [
        case.item
        for case in CASES
        if case.item.get("action") == "administer" and case.expected.effect is Effect.RELEASE
    ]

    assert len(whole) > 20 and len(others) == 2 and len(subscribing) == 1 and len(permitted) > 10
    validator.validate({"items": [*whole, *others, *subscribing, *permitted]})
    for broken in ({**whole[0], "extra": 1}, {**whole[0], "id": 7}, {**whole[0], "subject": {}}, {"id": "1"}):
        assert not validator.is_valid({"items": [broken]})


# Not cases of the rulebook: an owner that ends an agreement would need whoever holds them to change them.
BY_AGREEMENT = [
    ("ems", "paramedic", "emergency-response", "crash-reports"),
    ("transport", "analyst", "road-safety-statistics", "crash-reports"),
    ("cyber-centre", "analyst", "cyber-defence", "crash-reports"),
    ("highway-patrol", "officer", "law-enforcement", "vulnerabilities"),
    ("partner-cert", "analyst", "cyber-defence", "vulnerabilities"),
    ("partner-cert", "analyst", "cyber-defence", "threat-intelligence"),
]


def test_who_has_an_agreement_may_subscribe(opa_binary: Path) -> None:
    items = [
        {
            "id": str(number),
            "action": "subscribe",
            "subject": {"agency": agency, "id": "1", "roles": [role], "attributes": {}, "purpose": purpose},
            "topic": topic,
        }
        for number, (agency, role, purpose, topic) in enumerate(BY_AGREEMENT)
    ]
    found = [(output["effect"], output["reasons"]) for output in decide(opa_binary, items)]
    assert found == [("release", ["agreement"])] * len(items)


def test_each_output_depends_on_its_own_item_only(opa_binary: Path, outputs: dict[str, Output]) -> None:
    """The same item alone, in another order, doubled and beside odd items gives the same output but for its id."""
    random.seed(20260101)
    chosen = random.sample(CASES, 8)
    for case in chosen:
        assert decide(opa_binary, [case.item]) == [outputs[str(case.item["id"])]]

    items = [{**case.item, "id": f"{turn}/{case.item['id']}"} for turn in "ab" for case in CASES] + ODD_ITEMS
    random.shuffle(items)
    answered = decide(opa_binary, items)

    assert len(answered) == len(items)
    found = {output["id"]: {**output, "id": ""} for output in answered}
    for case in CASES:
        expected = {**outputs[str(case.item["id"])], "id": ""}
        assert found[f"a/{case.item['id']}"] == found[f"b/{case.item['id']}"] == expected


def test_odd_items_are_withheld(opa_binary: Path, schema: jsonschema_rs.Draft7Validator) -> None:
    answered = decide(opa_binary, ODD_ITEMS)

    assert [output["effect"] for output in answered] == ["withhold"] * len(ODD_ITEMS)
    assert [output["id"] for output in answered] == ["", "", "", "", "", "odd", "", ""]
    for output in answered:
        schema.validate(output)


@pytest.mark.parametrize("odd", [None, 0, "", "x", [], ["x"], {}, {"x": 1}, True], ids=repr)
def test_a_value_of_another_type_opens_nothing(
    odd: Any, opa_binary: Path, outputs: dict[str, Output]
) -> None:
    """Each place of a whole item replaced by each kind of value: an output for each, and none says more than before."""
    case = next(case for case in CASES if case.item["id"] == "cases/highway-patrol/agreements.yaml#1")
    paths = list(_paths(case.item))
    items = [
        {**_replaced(case.item, path, odd), "id": str(number)}
        for number, path in enumerate(paths)
        if path != ("id",)
    ]
    before = outputs[str(case.item["id"])]

    answered = decide(opa_binary, items)

    assert len(answered) == len(items)
    for output in answered:
        path = paths[int(output["id"])]
        unrestricted = odd == [] and path[-1] in {
            "roles",
            "dataregulation",
            "purposes",
            "releasableto",
            "markings",
        }
        unrestricted |= odd == "" and path[-1] == "datacategory"
        assert output["effect"] == "withhold" or unrestricted or "markings" in path, (path, output)
        for marking, treatment in output["treatments"].items():
            assert treatment in (before["treatments"].get(marking), {"kind": "remove"})


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if path:
        yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in entries:
        yield from _paths(child, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copied
