"""The YAML cases of `policy/cases`: who receives what, told in the words of the rulebook.

A case names a principal (`who`) and a record (`record`), a topic for `action: subscribe`, or a scope for
`action: audit`. `as` and `labels` change them, `owner`, `type` and `topic` replace, and `without` leaves out, by dotted
path; `purpose`, `roles` and `clearance` stand for the subject's. It states the `effect`, and what else it wants to pin
down: `treatments` (exactly these), `all` (one treatment for each marking), `obligations` (exactly these) and `reasons`
(each of these is given). What is not stated is empty for `treatments` of a notice or a withheld item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.policy.engine import RULEBOOK

CASES = RULEBOOK / "cases"
_NO_LABELS: Mapping[str, Any] = {
    "dataclassification": "",
    "datacategory": "",
    "dataregulation": [],
    "purposes": [],
    "releasableto": [],
}
_SHORT = {"purpose": "subject.purpose", "roles": "subject.roles", "clearance": "subject.attributes.clearance"}
_KNOWN = frozenset(
    [
        "action",
        "who",
        "as",
        "record",
        "labels",
        "owner",
        "type",
        "topic",
        "scope",
        "without",
        "effect",
        "treatments",
        "all",
        "obligations",
        "reasons",
    ]
)


@dataclass(frozen=True, slots=True)
class Case:
    """One case: the input item that it stands for, and what it expects of the output."""

    name: str
    item: Mapping[str, Any]
    effect: str
    treatments: Mapping[str, Any] | None
    obligations: list[str] | None
    reasons: list[str]


def load_cases() -> list[Case]:
    """Every case of every file, with ids that are unique; raises AssertionError for a key that no case has."""
    principals = _read("principals")
    records = _read("records")
    cases = []
    for path in sorted(CASES.glob("*.yaml")):
        if path.stem in {"principals", "records"}:
            continue
        for number, stated in enumerate(_read(path.stem), 1):
            assert set(stated) <= _KNOWN, f"{path.name}, case {number}: {set(stated) - _KNOWN}"
            cases.append(_case(f"{path.stem}-{number}", stated, principals, records))
    return cases


def markings_of(record_type: str) -> list[str]:
    """The type's markings in the rulebook's data, with `unreviewed`; only that for a type that is not registered."""
    found = {"unreviewed"}
    for path in sorted((RULEBOOK / "data" / "record_types").glob("*/data.yaml")):
        registered = yaml.safe_load(path.read_text()).get(record_type, {"fields": {}, "attributes": {}})
        for marks in (*registered["fields"].values(), *registered["attributes"].values()):
            found.update(marks)
    return sorted(found)


def _read(stem: str) -> Any:
    return yaml.safe_load((CASES / f"{stem}.yaml").read_text())


def _case(name: str, stated: Mapping[str, Any], principals: Any, records: Any) -> Case:
    item = _item(name, stated, principals, records)
    treatments = stated.get("treatments")
    if "all" in stated:
        treatments = dict.fromkeys(item["record"]["markings"], stated["all"])
    if treatments is None and stated["effect"] != "release":
        treatments = {}
    for path in stated.get("without", ()):
        _remove(item, _SHORT.get(path, path).split("."))
    expanded = treatments and {
        marking: value if isinstance(value, dict) else {"kind": value}
        for marking, value in treatments.items()
    }
    what = stated.get("record", stated.get("topic", stated.get("scope")))
    label = f"{name}: {stated['who']} {item.get('action', 'nothing')} {what} {stated['effect']}"
    return Case(label, item, stated["effect"], expanded, stated.get("obligations"), stated.get("reasons", []))


def _item(name: str, stated: Mapping[str, Any], principals: Any, records: Any) -> dict[str, Any]:
    action = stated.get("action", "deliver")
    who = principals[stated["who"]] | stated.get("as", {})
    subject = {"agency": who["agency"], "roles": who["roles"], "attributes": {"clearance": who["clearance"]}}
    if action != "deliver":
        subject["id"] = stated["who"]
    if action not in {"audit", "publish"}:
        subject["purpose"] = who["purpose"]
    item: dict[str, Any] = {"id": name, "action": action, "subject": subject}
    if action == "audit":
        return item | {"scope": stated["scope"]}
    if action == "subscribe":
        return item | {"topic": stated["topic"]}
    record = records[stated["record"]]
    record_type = stated.get("type", record["type"])
    item["topic"] = stated.get("topic", record["topic"])
    item["record"] = {
        "type": record_type,
        "agency": stated.get("owner", record["owner"]),
        "labels": {**_NO_LABELS, **record["labels"], **stated.get("labels", {})},
        "markings": markings_of(record_type),
    }
    return item


def _remove(item: dict[str, Any], path: list[str]) -> None:
    for key in path[:-1]:
        item = item[key]
    del item[path[-1]]
