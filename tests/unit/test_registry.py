"""The registry: every name stands for something, and every fault is said in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from broker.core.rulebook import registry as module
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.read_before import ReadBefore
from broker.core.rulebook.registry import FINDINGS_LIMIT, parse_registry
from broker.errors import RulebookRefused
from broker.model.data_file import parse_yaml
from broker.model.registry import Administration, Agreement, Issuer
from broker.model.rulebook import Revision
from tests.fakes.rulebook import ROOT, scripted_rulebook

DATA: dict[str, Any] = {
    "agencies/ems": {
        "name": "Emergency Medical Services",
        "contact": "desk@ems.example",
        "issuers": [{"issuer": "https://ems.example/issuer", "jwks_file": "keys/ems.jwks.json"}],
        "roles": ["paramedic"],
        "purposes": ["emergency-response"],
        "attributes": {"clearance": "red"},
        "max_token_lifetime_s": 3600,
    },
    "agencies/patrol": {
        "name": "Patrol",
        "contact": "desk@patrol.example",
        "issuers": [{"issuer": "https://patrol.example", "jwks_url": "https://patrol.example:8443/jwks"}],
        "roles": [],
        "purposes": [],
        "attributes": {},
        "max_token_lifetime_s": 60,
    },
    "topics": {
        "crashes": {
            "description": "Crashes",
            "steward": "patrol",
            "accepts": ["crash.v1"],
            "partitions": 3,
            "retention_s": None,
        }
    },
    "record_types/patrol": {
        "crash.v1": {
            "description": "A crash",
            "content_type": "application/json",
            "publishers": ["patrol"],
            "fields": {"$.name": ["pii"], "$['a:b'][*].c": ["pii", "unreviewed"]},
            "attributes": {"subject": ["pii"]},
        }
    },
    "agreements/patrol": {
        "ems-crashes": {
            "consumer": "ems",
            "topics": ["crashes"],
            "purposes": ["emergency-response"],
            "highest": "red",
            "grants": "records",
            "treatments": {"pii": {"kind": "mask", "keep_first": 1}, "unreviewed": {"kind": "remove"}},
            "obligations": ["delete-after-90-days"],
            "from": "2026-01-01T00:00:00Z",
            "until": None,
            "history": True,
        }
    },
    "vocabulary": {
        "classifications": ["clear", "amber+strict", "red"],
        "purposes": ["emergency-response"],
        "regulations": ["GDPR"],
        "categories": ["standard"],
        "roles": ["paramedic"],
        "attributes": {"clearance": "classification"},
        "markings": ["pii"],
    },
}

Change = Callable[[dict[str, Any]], object]


def revision(change: Change = lambda data: None) -> Revision:
    data = copy.deepcopy(DATA)
    change(data)
    files = {f"data/{name}/data.yaml": orjson.dumps(content) for name, content in data.items()}
    plain = scripted_rulebook({}, **files)
    kept = {path: content for path, content in plain.files.items() if path != "data/data.yaml"}
    return Revision(plain.id, kept, time_dependent=False)


def test_a_registry_holds_what_the_data_says() -> None:
    registry = parse_registry(revision())
    assert registry.agencies["ems"].issuers == (Issuer("https://ems.example/issuer", "keys/ems.jwks.json"),)
    assert registry.agencies["ems"].roles == {"paramedic"}
    assert registry.agencies["patrol"].max_token_lifetime_s == 60
    assert registry.topics["crashes"].partitions == 3
    assert registry.record_types["crash.v1"].owner == "patrol"
    assert registry.record_types["crash.v1"].fields["$['a:b'][*].c"] == ("pii", "unreviewed")
    assert registry.vocabulary.classifications == ("clear", "amber+strict", "red")
    assert registry.vocabulary.markings == {"pii", "unreviewed"}
    assert registry.agreements == (
        Agreement(
            "ems-crashes", "patrol", "ems", frozenset({"crashes"}), ("emergency-response",), "red", "records"
        ),
    )


def test_administrators_are_listed_and_counted_if_there_are_any() -> None:
    """A rulebook without them decides as before; nobody can change it, which the examination tells."""
    registry = parse_registry(revision())
    assert (registry.administrators, registry.administration) == ({}, None)

    def change(data: dict[str, Any]) -> None:
        data["administrators/ems"] = ["admin-1", "Dr. Ångström"]
        data["administrators/patrol"] = []
        data["administration"] = administration(2, 1)

    registry = parse_registry(revision(change))
    assert registry.administrators == {"ems": ("admin-1", "Dr. Ångström"), "patrol": ()}
    assert registry.administration == Administration(2, 1, 24)


def test_the_default_rulebook_registers_what_the_sample_data_needs() -> None:
    registry = parse_registry(read_rulebook(ROOT / "policy"))
    assert set(registry.topics) == {"crash-reports", "threat-intelligence", "vulnerabilities"}
    assert registry.record_types["gov.niem.crash-driver.v1"].owner == "highway-patrol"


def at(*keys: str | int, value: object) -> Change:
    def change(data: dict[str, Any]) -> None:
        target: Any = data
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


def without(*keys: str) -> Change:
    def change(data: dict[str, Any]) -> None:
        target: Any = data
        for key in keys[:-1]:
            target = target[key]
        del target[keys[-1]]

    return change


EMS, PATROL = "agencies/ems", "agencies/patrol"
CRASH = ("record_types/patrol", "crash.v1")
DEAL = ("agreements/patrol", "ems-crashes")

PEOPLE = "administrators/ems"


def administration(exchange: object, agency: object, *, hours: int = 24, **more: int) -> dict[str, Any]:
    return {"approvals": {"exchange": exchange, "agency": agency}, "ratify_hours": hours, **more}


FAULTS: list[tuple[Change, str]] = [
    (without("vocabulary"), "data/vocabulary/data.yaml: is missing"),
    (without("topics"), "data/topics/data.yaml: is missing"),
    (at("extra", value={}), "data/extra/data.yaml: is no place for data"),
    (at("agencies/ems/more", value={}), "data/agencies/ems/more/data.yaml: is no place for data"),
    (at("agencies/e_ms", value=DATA["agencies/patrol"]), "'e_ms' is no name of an agency"),
    (at(EMS, value=[]), "data/agencies/ems/data.yaml: the file: "),
    (at(EMS, "admin", value=True), "ems/data.yaml: admin: unknown key; remove it"),
    (without(EMS, "contact"), "contact: is missing; add it"),
    (at(EMS, "name", value="two\nlines"), "name: "),
    (at(EMS, "max_token_lifetime_s", value="3600"), "max_token_lifetime_s: "),
    (at(EMS, "max_token_lifetime_s", value=True), "max_token_lifetime_s: "),
    (at(EMS, "max_token_lifetime_s", value=86_401), "max_token_lifetime_s: "),
    (at(EMS, "roles", value=["officer"]), "roles: 'officer' is no role of the vocabulary"),
    (at(EMS, "roles", value=["paramedic", "paramedic"]), "roles: names one thing twice"),
    (at(EMS, "roles", value="paramedic"), "roles: "),
    (at(EMS, "purposes", value=["gossip"]), "purposes: 'gossip' is no purpose of the vocabulary"),
    (
        at(EMS, "attributes", value={"rank": "red"}),
        "attributes.rank: 'rank' is no attribute of the vocabulary",
    ),
    (at(EMS, "attributes", "clearance", value="ultra"), "attributes.clearance: 'ultra' is no classification"),
    (at(EMS, "issuers", 0, "issuer", value="http://ems.example"), "issuers.0.issuer: "),
    (at(EMS, "issuers", 0, "jwks_url", value="https://ems.example/k"), "issuers.0: must have exactly one"),
    (without(EMS, "issuers", 0, "jwks_file"), "issuers.0: must have exactly one"),  # type: ignore[arg-type]
    (at(EMS, "issuers", 0, "jwks_file", value="../ems.jwks.json"), "issuers.0.jwks_file: "),
    (at(PATROL, "issuers", value=DATA[EMS]["issuers"]), "'https://ems.example/issuer' is ems's too"),
    (at("topics", "Crashes", value=DATA["topics"]["crashes"]), "Crashes: "),
    (at("topics", "crashes", "partitions", value=33), "crashes.partitions: "),
    (at("topics", "crashes", "partitions", value=0), "crashes.partitions: "),
    (at("topics", "crashes", "retention_s", value=1), "crashes.retention_s"),
    (at("topics", "crashes", "steward", value="nobody"), "crashes.steward: 'nobody' is no registered agency"),
    (
        at("topics", "crashes", "accepts", value=["x.v1"]),
        "crashes.accepts: 'x.v1' is no registered record type",
    ),
    (
        at("record_types/nobody", value={}),
        "data/record_types/nobody/data.yaml: 'nobody' is no registered agency",
    ),
    (at("record_types/ems", value=DATA["record_types/patrol"]), "crash.v1: is ems's type too"),
    (at(*CRASH, "publishers", value=["nobody"]), "crash.v1.publishers: 'nobody' is no registered agency"),
    (at(*CRASH, "content_type", value="JSON"), "crash.v1.content_type: "),
    (at(*CRASH, "content_type", value="text/plain"), "crash.v1.fields: only JSON can be redacted by field"),
    (at(*CRASH, "fields", value={"name": ["pii"]}), "crash.v1.fields.name: field path"),
    (at(*CRASH, "fields", value={"$..name": ["pii"]}), "crash.v1.fields.$..name: field path"),
    (at(*CRASH, "fields", value={"$.a": ["pii"], "$['a']": ["pii"]}), "is the same path as another"),
    (at(*CRASH, "fields", value={"$.a": []}), "crash.v1.fields.$.a: has no marking"),
    (at(*CRASH, "fields", value={"$.a": ["secret"]}), "'secret' is no marking of the vocabulary"),
    (at(*CRASH, "attributes", value={"Sub-ject": ["pii"]}), "crash.v1.attributes.Sub-ject"),
    # What reaches every consumer cannot be marked: the marking would count for nothing.
    (at(*CRASH, "attributes", value={"time": ["pii"]}), "crash.v1.attributes.time: cannot be marked"),
    (at(*CRASH, "attributes", value={"dataschema": ["pii"]}), "attributes.dataschema: cannot be marked"),
    (at(*CRASH, "attributes", value={"authid": ["pii"]}), "attributes.authid: cannot be marked"),
    (at("agreements/nobody", value={}), "data/agreements/nobody/data.yaml: 'nobody' is no registered agency"),
    (at(*DEAL, "consumer", value="patrol"), "ems-crashes.consumer: is the owner itself"),
    (at(*DEAL, "consumer", value="nobody"), "ems-crashes.consumer: 'nobody' is no registered agency"),
    (at(*DEAL, "topics", value=["x"]), "ems-crashes.topics: 'x' is no registered topic"),
    (at(*DEAL, "purposes", value=["gossip"]), "ems-crashes.purposes: 'gossip' is no purpose"),
    (at(*DEAL, "highest", value="ultra"), "ems-crashes.highest: 'ultra' is no classification"),
    (at(*DEAL, "grants", value="all"), "ems-crashes.grants: "),
    (at(*DEAL, "treatments", value={"secret": {"kind": "keep"}}), "treatments: 'secret' is no marking"),
    (at(*DEAL, "treatments", value={"pii": {"kind": "show"}}), "ems-crashes.treatments.pii.kind: "),
    (at(*DEAL, "treatments", value={"pii": {"kind": "keep", "keep_last": 1}}), "belong to mask only"),
    (at(*DEAL, "treatments", value={"pii": {"kind": "mask", "keep_last": -1}}), "treatments.pii.keep_last: "),
    (at(*DEAL, "from", value="2026-01-01"), "ems-crashes.from: is no moment like"),
    (at(*DEAL, "from", value="2026-1-01T00:00:00Z"), "ems-crashes.from: is no moment like"),
    (at(*DEAL, "from", value="2026-02-30T00:00:00Z"), "ems-crashes.from: is no moment like"),
    (at(*DEAL, "until", value="2025-01-01T00:00:00Z"), "ends before it begins"),
    (at(*DEAL, "history", value="yes"), "ems-crashes.history: "),
    (at("vocabulary", "classifications", value=[]), "classifications: "),
    (at("vocabulary", "classifications", value=["clear", "clear"]), "classifications: names one thing twice"),
    (at("vocabulary", "regulations", value=["A,B"]), "regulations.0: "),
    (at("vocabulary", "attributes", value={"clearance": "number"}), "attributes.clearance: "),
    (at("vocabulary", "markings", value=["pii", "unreviewed"]), "markings: 'unreviewed' is built in"),
    (at(PEOPLE, value={"ems": []}), "data/administrators/ems/data.yaml: the file: "),
    (
        at(PEOPLE, value=["admin-1", "admin-1"]),
        "data/administrators/ems/data.yaml: the file: names one thing",
    ),
    (at(PEOPLE, value=[""]), "data/administrators/ems/data.yaml: 0: "),
    (at(PEOPLE, value=["two\nlines"]), "data/administrators/ems/data.yaml: 0: "),
    (at(PEOPLE, value=[7]), "data/administrators/ems/data.yaml: 0: "),
    (
        at("administrators/nobody", value=[]),
        "administrators/nobody/data.yaml: 'nobody' is no registered agency",
    ),
    (at("administrators", value=[]), "data/administrators/data.yaml: is no place for data"),
    (at("administration/ems", value={}), "data/administration/ems/data.yaml: is no place for data"),
    (
        at("administration", value={"approvals": {"exchange": 1}, "ratify_hours": 24}),
        "approvals.agency: is missing",
    ),
    (at("administration", value=administration(0, 1)), "administration/data.yaml: approvals.exchange: "),
    (at("administration", value=administration(1, True)), "administration/data.yaml: approvals.agency: "),
    (at("administration", value=administration(1, 1, hours=721)), "administration/data.yaml: ratify_hours: "),
    (at("administration", value=administration(1, 1, more=1)), "administration/data.yaml: more: unknown key"),
]


@pytest.mark.parametrize(("change", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_fault_is_refused_with_its_place(change: Change, said: str) -> None:
    with pytest.raises(RulebookRefused) as refused:
        parse_registry(revision(change))
    findings = refused.value.findings
    before = ReadBefore()
    parse_registry(revision(), before)
    with pytest.raises(RulebookRefused) as again:
        parse_registry(revision(change), before)
    assert again.value.findings == findings, "whatever was read before the change"
    assert any(said in finding for finding in findings), findings
    assert all("\n" not in finding and "; " in finding for finding in findings)


def test_all_faults_are_told_at_once() -> None:
    def change(data: dict[str, Any]) -> None:
        at(EMS, "roles", value=["x"])(data)
        at(*DEAL, "topics", value=["y"])(data)

    with pytest.raises(RulebookRefused) as refused:
        parse_registry(revision(change))
    assert len(refused.value.findings) == 2


def test_duplicate_keys_are_refused() -> None:
    files = dict(revision().files)
    files["data/topics/data.yaml"] = b"a: {}\na: {}\n"
    with pytest.raises(RulebookRefused, match=r"data/topics/data\.yaml: line 2: key 'a' stands twice"):
        parse_registry(Revision("sha256:0", files, time_dependent=False))


def _many(count: int, agreement: object) -> Change:
    return at("agreements/patrol", value={f"a-{number}": agreement for number in range(count)})


@pytest.mark.parametrize(
    "change",
    [
        _many(5_000, {}),
        _many(5_000, {**DATA["agreements/patrol"]["ems-crashes"], "topics": ["nowhere"]}),
        at(*DEAL, "topics", value=["Not A Name"] * 5_000),
        at(*DEAL, "treatments", value={f"Not {number}": 1 for number in range(20_000)}),
        at(EMS, "roles", value=["nobody"] + [f"r-{number}" for number in range(5_000)]),
        at(EMS, value={f"k-{number}": 1 for number in range(20_000)}),
    ],
    ids=["shapes", "references", "a list", "members of a member", "words", "members"],
)
def test_no_more_faults_are_told_than_anybody_reads(change: Change) -> None:
    """A file of some megabytes could otherwise have millions, each with its line."""
    with pytest.raises(RulebookRefused) as refused:
        parse_registry(revision(change))
    assert 1 <= len(refused.value.findings) <= FINDINGS_LIMIT
    assert all("\n" not in finding and "; " in finding for finding in refused.value.findings)


def test_equal_words_of_agreements_are_one_in_memory() -> None:
    registry = parse_registry(revision(_many(3, DATA["agreements/patrol"]["ems-crashes"])))
    first, *others = registry.agreements
    assert [agreement.id for agreement in registry.agreements] == ["a-0", "a-1", "a-2"]
    assert all(each.topics is first.topics and each.purposes is first.purposes for each in others)


def _two_owners(data: dict[str, Any]) -> None:
    deal = DATA["agreements/patrol"]["ems-crashes"]
    data["agreements/ems"] = {"patrol-crashes": {**deal, "consumer": "patrol"}}


def _and(*changes: Change) -> Change:
    def change(data: dict[str, Any]) -> None:
        for each in changes:
            each(data)

    return change


def test_files_of_agreements_that_are_the_same_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(module, "parse_yaml", lambda content: read.append(content) or parse_yaml(content))
    before = ReadBefore()
    first = parse_registry(revision(_two_owners), before)
    changed = revision(_and(_two_owners, at(*DEAL, "highest", value="clear")))
    read.clear()
    second = parse_registry(changed, before)
    assert second == parse_registry(changed)
    files = [changed.files[f"data/agreements/{owner}/data.yaml"] for owner in ("ems", "patrol")]
    assert [read.count(content) for content in files] == [1, 2], "once without what was read before"
    assert [a is b for a, b in zip(first.agreements, second.agreements, strict=True)].count(False) == 1


@pytest.mark.parametrize(
    "change",
    [
        without("agencies/ems"),
        without("topics", "crashes"),
        _and(at("vocabulary", "purposes", value=[]), at(EMS, "purposes", value=[])),
        _and(at("vocabulary", "classifications", value=["clear"]), at(EMS, "attributes", value={})),
        at("vocabulary", "markings", value=[]),
    ],
    ids=["consumer", "topic", "purpose", "classification", "marking"],
)
def test_what_was_read_before_is_held_against_what_is_registered_now(change: Change) -> None:
    before = ReadBefore()
    known = parse_registry(revision(), before)
    findings = []
    for read_before in (before, None):
        with pytest.raises(RulebookRefused) as refused:
            parse_registry(revision(change), read_before)
        findings.append(refused.value.findings)
    assert findings[0] == findings[1]
    assert any("data/agreements/patrol" in finding for finding in findings[0])
    assert parse_registry(revision(), before) == known, "a refused reading leaves nothing"


def test_the_same_content_at_another_place_is_somebody_elses() -> None:
    before = ReadBefore()
    parse_registry(revision(), before)
    moved = _and(
        lambda data: data.update({"agreements/ems": {"x": {**data["agreements/patrol"].pop("ems-crashes")}}}),
        without("agreements/patrol"),
    )
    with pytest.raises(RulebookRefused, match="is the owner itself"):
        parse_registry(revision(moved), before)


def test_agreements_by_party() -> None:
    registry = parse_registry(read_rulebook(ROOT / "policy"))
    for agency in (*registry.agencies, "nobody"):
        assert list(registry.granted_by(agency)) == [
            each for each in registry.agreements if each.owner == agency
        ]
        assert list(registry.granted_to(agency)) == [
            each for each in registry.agreements if each.consumer == agency
        ]
    assert registry.granted_by("highway-patrol") and registry.granted_to("transport")
    assert not registry.granted_by("nobody")
