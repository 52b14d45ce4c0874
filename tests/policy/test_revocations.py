"""Each default rule revokes: what it grants is gone as soon as a revision says so, whatever else still grants it.

That a running exchange applies the new answer to streams that are open is tests/unit/test_deliver_switch.py; here is each
answer, by the real engine on the changed rulebook.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.policy.engine import RULEBOOK, Output, decide

pytestmark = pytest.mark.opa

PARAMEDIC = {"agency": "ems", "roles": ["paramedic"], "attributes": {"clearance": "red"}}
OFFICER = {"agency": "highway-patrol", "id": "1", "roles": ["officer"], "attributes": {"clearance": "red"}}
LABELS = {
    "dataclassification": "amber",
    "datacategory": "sensitive",
    "dataregulation": ["GDPR"],
    "purposes": ["emergency-response"],
    "releasableto": [],
}
CRASH = {
    "type": "gov.niem.crash-driver.v1",
    "agency": "highway-patrol",
    "labels": LABELS,
    "markings": ["pii"],
}
TOPIC = {"topic": "crash-reports"}
DELIVER = {
    "id": "1",
    "action": "deliver",
    "subject": PARAMEDIC | {"purpose": "emergency-response"},
    **TOPIC,
    "record": CRASH,
}
SUBSCRIBE = {"id": "1", "action": "subscribe", "subject": DELIVER["subject"] | {"id": "1"}, **TOPIC}  # type: ignore[operator]
PUBLISH = {"id": "1", "action": "publish", "subject": OFFICER, **TOPIC, "record": CRASH}
AUDITOR = {"agency": "exchange", "id": "auditor-1", "roles": ["auditor"], "attributes": {}}
AUDIT = {"id": "1", "action": "audit", "subject": AUDITOR, "scope": "exchange"}
ADMINISTRATOR = {"agency": "ems", "id": "admin-1", "roles": ["agency-admin"], "attributes": {}}
ADMINISTER = {
    "id": "1",
    "action": "administer",
    "subject": ADMINISTRATOR,
    "verb": "read",
    "areas": [],
    "author": None,
    "approvals": [],
    "about": {"owner": "ems"},
}

Change = Callable[[Path], None]


def data(path: str, change: Callable[[Any], object]) -> Change:
    """Changes what a data file holds, in place."""

    def made(rulebook: Path) -> None:
        file = rulebook / "data" / path / "data.yaml"
        value = yaml.safe_load(file.read_text())
        change(value)
        file.write_text(yaml.safe_dump(value))

    return made


def agreement(**changed: object) -> Change:
    return data("agreements/highway-patrol", lambda value: value["ems-crash-reports"].update(changed))


def denies(agency: str) -> Change:
    """The agency's module refuses everything from now on."""

    def made(rulebook: Path) -> None:
        module = rulebook / "agencies" / agency / "module.rego"
        rules = (
            module.read_text() if module.is_file() else f"package agencies[{agency!r}]\n".replace("'", '"')
        )
        module.parent.mkdir(exist_ok=True)
        module.write_text(rules + '\ndeny contains "no more"\n')

    return made


def without(name: str, kind: str) -> Callable[[Any], object]:
    return lambda value: value[kind].remove(name)


EMS, PATROL, EXCHANGE, WORDS = "agencies/ems", "agencies/highway-patrol", "agencies/exchange", "vocabulary"
TYPES = "record_types/highway-patrol"
REVOCATIONS: dict[str, tuple[dict[str, Any], Change, str]] = {
    "an agreement ends": (
        DELIVER,
        data("agreements/highway-patrol", lambda value: value.pop("ems-crash-reports")),
        "no-agreement",
    ),
    "an agreement leaves the topic out": (DELIVER, agreement(topics=[]), "no-agreement"),
    "an agreement leaves the purpose out": (DELIVER, agreement(purposes=[]), "no-agreement"),
    "an agreement goes less high": (DELIVER, agreement(highest="green"), "no-agreement"),
    "an agreement is with somebody else": (DELIVER, agreement(consumer="transport"), "no-agreement"),
    "an agreement is not in order": (DELIVER, agreement(until="soon"), "no-agreement"),
    "a clearance is lowered": (
        DELIVER,
        data(EMS, lambda value: value["attributes"].update(clearance="green")),
        "clearance-above-registration",
    ),
    "a role is taken away": (DELIVER, data(EMS, without("paramedic", "roles")), "role-unregistered"),
    "a purpose is taken away": (
        DELIVER,
        data(EMS, without("emergency-response", "purposes")),
        "purpose-unregistered",
    ),
    "a topic is closed": (DELIVER, data("topics", lambda value: value.pop("crash-reports")), "topic-unknown"),
    "a type is gone": (DELIVER, data(TYPES, lambda value: value.clear()), "type-unregistered"),
    "a classification is no word any more": (
        DELIVER,
        data(WORDS, without("amber", "classifications")),
        "label-dataclassification",
    ),
    "a category is no word any more": (
        DELIVER,
        data(WORDS, without("sensitive", "categories")),
        "label-datacategory",
    ),
    "a regulation is no word any more": (
        DELIVER,
        data(WORDS, without("GDPR", "regulations")),
        "label-dataregulation",
    ),
    "the owner's module denies": (DELIVER, denies("highway-patrol"), "highway-patrol: no more"),
    "the consumer's module denies": (DELIVER, denies("ems"), "ems: no more"),
    "subscribing: the agreement ends": (SUBSCRIBE, agreement(topics=[]), "no-agreement"),
    "subscribing: the role is taken away": (
        SUBSCRIBE,
        data(EMS, without("paramedic", "roles")),
        "role-unregistered",
    ),
    "subscribing: the purpose is taken away": (
        SUBSCRIBE,
        data(EMS, without("emergency-response", "purposes")),
        "purpose-unregistered",
    ),
    "subscribing: the topic is closed": (
        SUBSCRIBE,
        data("topics", lambda value: value.pop("crash-reports")),
        "topic-unknown",
    ),
    "subscribing: the owner may publish there no more": (
        SUBSCRIBE,
        data("topics", lambda value: value["crash-reports"].update(steward="transport", accepts=[])),
        "no-agreement",
    ),
    "publishing: no publisher any more": (
        PUBLISH,
        data(TYPES, lambda value: value["gov.niem.crash-driver.v1"].update(publishers=[])),
        "not-a-publisher",
    ),
    "publishing: the topic takes the type no more": (
        PUBLISH,
        data("topics", lambda value: value["crash-reports"].update(accepts=[])),
        "type-not-accepted",
    ),
    "publishing: the role is taken away": (
        PUBLISH,
        data(PATROL, without("officer", "roles")),
        "role-unregistered",
    ),
    "publishing: the own module denies": (PUBLISH, denies("highway-patrol"), "highway-patrol: no more"),
    "auditing: the role is taken away": (
        AUDIT,
        data(EXCHANGE, without("auditor", "roles")),
        "role-unregistered",
    ),
    "administering: listed no more": (
        ADMINISTER,
        data("administrators/ems", lambda value: value.remove("admin-1")),
        "not-entitled",
    ),
    "administering: the role is taken away": (
        ADMINISTER,
        data(EMS, without("agency-admin", "roles")),
        "role-unregistered",
    ),
}


@pytest.fixture
def rulebook(tmp_path: Path) -> Path:
    copied = tmp_path / "policy"
    shutil.copytree(RULEBOOK, copied, ignore=shutil.ignore_patterns("cases", "*_test.rego", "__pycache__"))
    return copied


def answer(opa: Path, rulebook: Path, item: dict[str, Any]) -> Output:
    (output,) = decide(opa, [item], rulebook=rulebook)
    return output


def test_all_of_it_is_granted_before(opa_binary: Path, rulebook: Path) -> None:
    items = [DELIVER, SUBSCRIBE, PUBLISH, AUDIT, ADMINISTER]
    assert [answer(opa_binary, rulebook, item)["effect"] for item in items] == ["release"] * 5


@pytest.mark.parametrize(("item", "change", "reason"), REVOCATIONS.values(), ids=REVOCATIONS.keys())
def test_it_is_gone(
    opa_binary: Path, rulebook: Path, item: dict[str, Any], change: Change, reason: str
) -> None:
    change(rulebook)
    output = answer(opa_binary, rulebook, item)
    assert (output["effect"], output["treatments"]) == ("withhold", {})
    assert reason in output["reasons"]


def test_records_become_notices(opa_binary: Path, rulebook: Path) -> None:
    agreement(grants="notice", treatments={})(rulebook)
    assert answer(opa_binary, rulebook, DELIVER)["effect"] == "notice"


def test_a_field_is_kept_no_more(opa_binary: Path, rulebook: Path) -> None:
    kept = answer(opa_binary, rulebook, DELIVER)["treatments"]
    agreement(treatments={})(rulebook)
    assert (kept["pii"], answer(opa_binary, rulebook, DELIVER)["treatments"]["pii"]) == (
        {"kind": "keep"},
        {"kind": "remove"},
    )


def test_an_end_is_set(opa_binary: Path, rulebook: Path) -> None:
    agreement(until="2026-06-01T00:00:00Z")(rulebook)
    assert answer(opa_binary, rulebook, DELIVER)["valid_until"] == "2026-06-01T00:00:00Z"
