"""Cases as part of a rulebook: what is refused and where, what item each stands for, and what counts as different."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from broker.core.rulebook.cases import Case, Cases, Expectation, read_cases
from broker.core.rulebook.cases.run import Outcome, compare, run_cases
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.errors import RulebookRefused
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from tests.fakes.rulebook import ROOT
from tests.fakes.trial import FunctionTrial

DEFAULT = read_rulebook(ROOT / "policy")
REGISTRY = parse_registry(DEFAULT)
PLAIN = {path: content for path, content in DEFAULT.files.items() if not path.startswith("cases/")}
SAMPLES = {path: DEFAULT.files[path] for path in ("cases/principals.yaml", "cases/records.yaml")}


def read(files: Mapping[str, str | bytes], *, manifest: bytes = b"time_dependent: false") -> Cases:
    given = {path: each.encode() if isinstance(each, str) else each for path, each in files.items()}
    revision = revision_of({**PLAIN, **SAMPLES, **given, "manifest.yaml": manifest})
    return read_cases(revision, REGISTRY)


def one(text: str, **options: Any) -> Case:
    (case,) = read({"cases/some.yaml": f"- {{{text}}}"}, **options).cases
    return case


def refusal(files: Mapping[str, str | bytes], **options: Any) -> list[str]:
    with pytest.raises(RulebookRefused) as refused:
        read(files, **options)
    assert all("\n" not in finding and "; " in finding for finding in refused.value.findings)
    return list(refused.value.findings)


def test_the_default_rulebook_s_cases_are_read_with_their_places() -> None:
    cases = read_cases(DEFAULT, REGISTRY)
    assert len(cases.cases) > 100
    for case in cases.cases:
        line = DEFAULT.files[case.file].decode().splitlines()[case.line - 1]
        assert line.startswith("- "), (case.file, case.line)
    assert len({case.item["id"] for case in cases.cases}) == len(cases.cases)
    assert {sample.name for sample in cases.principals} >= {"officer", "stranger"}
    assert cases.times == ()


def test_no_cases_are_no_fault() -> None:
    assert read_cases(revision_of(PLAIN), REGISTRY) == Cases((), (), (), ())


def test_a_case_stands_for_the_item_that_the_broker_would_send() -> None:
    item = one("who: paramedic, record: crash, effect: release").item
    assert item == {
        "id": "cases/some.yaml#1",
        "action": "deliver",
        "subject": {
            "agency": "ems",
            "roles": ["paramedic"],
            "attributes": {"clearance": "red"},
            "purpose": "emergency-response",
        },
        "topic": "crash-reports",
        "record": {
            "type": "gov.niem.crash-driver.v1",
            "agency": "highway-patrol",
            "labels": {
                "dataclassification": "amber",
                "dataregulation": [],
                "datacategory": "",
                "purposes": ["emergency-response", "law-enforcement", "road-safety-statistics"],
                "releasableto": [],
            },
            "markings": ["criminal", "identifier", "medical", "operational", "pii", "unreviewed"],
        },
    }


def test_each_action_has_its_own_item() -> None:
    subscribe = one("action: subscribe, who: paramedic, topic: crash-reports, effect: release").item
    publish = one("action: publish, who: officer, record: crash, effect: release").item
    audit = one("action: audit, who: auditor, scope: records, effect: release").item
    assert subscribe["subject"] == {
        "agency": "ems",
        "roles": ["paramedic"],
        "attributes": {"clearance": "red"},
        "purpose": "emergency-response",
        "id": "paramedic",
    }
    assert "record" not in subscribe and "record" in publish
    assert isinstance(publish["subject"], dict) and "purpose" not in publish["subject"]
    assert audit["scope"] == "records" and "topic" not in audit


def test_a_case_of_administering_names_areas_and_persons() -> None:
    item = one(
        "action: administer, who: administrator, as: {id: admin-9}, verb: activate, areas: [module/ems, exchange],"
        " author: agency-administrator, approvals: [second-administrator, agency-administrator], about: {owner: ems},"
        " effect: release"
    ).item
    assert {key: value for key, value in item.items() if key != "id"} == {
        "action": "administer",
        "subject": {
            "agency": "exchange",
            "roles": ["exchange-admin"],
            "attributes": {"clearance": "clear"},
            "id": "admin-9",
        },
        "verb": "activate",
        "areas": [{"kind": "exchange", "owner": ""}, {"kind": "module", "owner": "ems"}],
        "author": {"agency": "ems", "id": "admin-1"},
        "approvals": [{"agency": "ems", "id": "admin-1"}, {"agency": "exchange", "id": "admin-2"}],
        "about": {"owner": "ems"},
    }


def test_a_case_may_be_as_wrong_as_it_likes() -> None:
    item = one(
        "who: paramedic, as: {clearance: 4, roles: [b, a], agency: nobody}, record: crash, owner: Nobody, type: none,"
        " topic: nowhere, labels: {dataclassification: 0, purposes: [z, y]}, without: [purpose, record.labels.datacategory],"
        " effect: withhold"
    ).item
    assert item["subject"] == {"agency": "nobody", "roles": ["a", "b"], "attributes": {"clearance": 4}}
    record: Any = item["record"]
    assert (item["topic"], record["type"], record["agency"]) == ("nowhere", "none", "Nobody")
    assert record["markings"] == ["unreviewed"]
    assert record["labels"] == {
        "dataclassification": 0,
        "dataregulation": [],
        "purposes": ["y", "z"],
        "releasableto": [],
    }


def test_what_is_expected() -> None:
    mask = "who: paramedic, record: crash, effect: release, treatments: {pii: {kind: mask, keep_last: 2}, medical: keep}"
    assert one(mask).expected.treatments == {
        "pii": Treatment(TreatmentKind.MASK, 0, 2),
        "medical": Treatment(TreatmentKind.KEEP),
    }
    every = one(
        "who: officer, record: indicator, without: [record.markings], effect: release, all: keep"
    ).expected
    assert every.treatments == dict.fromkeys(
        ("public", "technical", "unreviewed"), Treatment(TreatmentKind.KEEP)
    )
    assert one("who: officer, record: crash, effect: release").expected.treatments is None
    assert one("who: officer, record: crash, effect: notice").expected.treatments == {}


WRONG = {
    "an unknown key": (
        "who: officer, record: crash, efect: release, effect: release",
        "2: efect: unknown key",
    ),
    "no effect": ("who: officer, record: crash", "2: effect: is missing; add it"),
    "another effect": ("who: officer, record: crash, effect: deny", "2: effect: "),
    "nobody": ("who: oficer, record: crash, effect: release", "2: who: 'oficer' is none of the principals"),
    "no such record": (
        "who: officer, record: crush, effect: release",
        "2: record: 'crush' is none of the records",
    ),
    "no record": ("who: officer, effect: release", "2: a case of 'deliver' has a record"),
    "a record to subscribe": (
        "action: subscribe, who: officer, record: crash, effect: release",
        "a case of 'subscribe' has no record",
    ),
    "no topic": ("action: subscribe, who: officer, effect: release", "a case of 'subscribe' has a topic"),
    "labels of no record": (
        "action: subscribe, who: officer, topic: x, labels: {purposes: []}, effect: withhold",
        "has no labels, owner or type",
    ),
    "no scope": ("action: audit, who: officer, effect: release", "'scope' belongs to 'action: audit'"),
    "a scope": (
        "who: officer, record: crash, scope: x, effect: release",
        "'scope' belongs to 'action: audit'",
    ),
    "no verb": (
        "action: administer, who: officer, effect: release",
        "'verb' belongs to 'action: administer'",
    ),
    "a verb": (
        "who: officer, record: crash, verb: read, effect: release",
        "'verb' belongs to 'action: administer'",
    ),
    "areas": (
        "who: officer, record: crash, areas: [exchange], effect: release",
        "'areas', 'author', 'approvals' and 'about' belong to 'action: administer'",
    ),
    "a topic to administer": (
        "action: administer, who: officer, verb: read, topic: x, effect: release",
        "a case of 'administer' has no labels, owner or type",
    ),
    "nobody who approved": (
        "action: administer, who: officer, verb: read, approvals: [officer, oficer], effect: release",
        "2: approvals: 'oficer' is none of the principals",
    ),
    "a person where only the class counts": (
        "who: officer, as: {id: admin-1}, record: crash, effect: release",
        "2: as.id: 'id' is nothing that a principal has",
    ),
    "another label": (
        "who: officer, record: crash, labels: {colour: red}, effect: release",
        "2: labels.colour: ",
    ),
    "another attribute": (
        "who: officer, as: {clearence: red}, record: crash, effect: release",
        "2: as.clearence: 'clearence' is nothing that a principal has",
    ),
    "no such marking": (
        "who: officer, record: crash, effect: release, treatments: {pie: keep}",
        "2: treatments.pie: 'pie' is no marking of the vocabulary",
    ),
    "another treatment": (
        "who: officer, record: crash, effect: release, treatments: {pii: kept}",
        "2: treatments.pii: ",
    ),
    "treatments twice": (
        "who: officer, record: crash, effect: release, all: keep, treatments: {}",
        "'treatments' and 'all' say the same",
    ),
    "treatments of nothing": (
        "who: officer, record: crash, effect: notice, all: keep",
        "only what is released",
    ),
    "without what is not there": (
        "who: officer, record: crash, without: [record.lables], effect: release",
        "2: without: the item holds no record.lables; correct the path",
    ),
    "without the same twice": (
        "who: officer, record: crash, without: [roles, roles], effect: release",
        "the item holds no subject.roles",
    ),
    "a time that nothing depends on": (
        'who: officer, record: crash, at: "2026-01-01T00:00:00Z", effect: release',
        "2: at: manifest.yaml says `time_dependent: false`; remove `at`",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_case_that_says_nothing_is_refused_at_its_place(text: str, said: str) -> None:
    found = refusal({"cases/some.yaml": f"# a comment\n- {{{text}}}\n"})
    assert len(found) == 1
    assert found[0].startswith("cases/some.yaml:2: ") and said in found[0], found


def test_the_line_is_the_key_s_own() -> None:
    found = refusal({"cases/some.yaml": "- who: officer\n  record: crash\n  effect: release\n  all: bad\n"})
    assert found[0].startswith("cases/some.yaml:4: all: ")


def test_files_that_are_no_cases() -> None:
    assert refusal({"cases/some.yaml": "who: officer"})[0].startswith("cases/some.yaml:1: ")
    assert refusal({"cases/some.yaml": "- {who: a, who: b}"})[0].startswith(
        "cases/some.yaml: line 1: key 'who'"
    )
    assert refusal({"cases/some.yaml": b"\xff"})[0].startswith("cases/some.yaml: is not UTF-8")


def test_a_time_dependent_rulebook_s_cases_say_when() -> None:
    dependent = {"manifest": b"time_dependent: true"}
    assert (
        "add `at`"
        in refusal({"cases/some.yaml": "- {who: officer, record: crash, effect: release}"}, **dependent)[0]
    )
    when = 'who: officer, record: crash, at: "2026-01-01T00:00:00Z", effect: release'
    assert one(when, **dependent).item["time"] == "2026-01-01T00:00:00Z"


PRINCIPALS = {
    "an agency that is misspelt": ("{agency: esm, roles: []}", "x.agency: 'esm' is no registered agency"),
    "one that is said to be unregistered": (
        "{agency: ems, roles: [], unregistered: true}",
        "is a registered agency",
    ),
    "another agency's role": ("{agency: ems, roles: [officer]}", "x.roles: 'officer' is no role of ems"),
    "another's purpose": (
        "{agency: ems, roles: [], purpose: cyber-defence}",
        "x.purpose: 'cyber-defence' is no purpose",
    ),
    "a clearance above the ceiling": (
        "{agency: transport, roles: [], clearance: red}",
        "x.clearance: 'red' is no classification that a token of transport may assert",
    ),
    "a clearance that is none": ("{agency: ems, roles: [], clearance: pink}", "x.clearance: 'pink'"),
    "an attribute that is none": ("{agency: ems, roles: [], clearence: red}", "x.clearence: unknown key"),
    "no roles": ("{agency: ems}", "x.roles: is missing"),
}


@pytest.mark.parametrize(("text", "said"), PRINCIPALS.values(), ids=PRINCIPALS.keys())
def test_a_principal_that_no_token_makes_is_refused(text: str, said: str) -> None:
    found = refusal({"cases/principals.yaml": f"\nx: {text}\n"})
    assert found[0].startswith("cases/principals.yaml:2: ") and said in found[0], found


RECORDS = {
    "no such topic": ("crash", "topic", "crashes", "x.topic: 'crashes' is no registered topic"),
    "no such type": ("crash", "type", "gov.x", "x.type: 'gov.x' is no registered record type"),
    "a type that is not accepted": (
        "crash",
        "topic",
        "vulnerabilities",
        "no type that vulnerabilities accepts",
    ),
    "an owner that does not publish it": ("crash", "owner", "ems", "x.owner: 'ems' is no publisher"),
    "a label outside the vocabulary": (
        "crash",
        "labels",
        {"dataclassification": "pink"},
        "'pink' is no dataclass",
    ),
    "no classification": ("crash", "labels", {}, "x.labels.dataclassification: is missing"),
    "a purpose that is none": (
        "crash",
        "labels",
        {"dataclassification": "red", "purposes": ["x"]},
        "x.labels.purposes: 'x' is no purposes of the vocabulary",
    ),
}


@pytest.mark.parametrize(("sample", "key", "value", "said"), RECORDS.values(), ids=RECORDS.keys())
def test_a_record_that_nobody_could_publish_is_refused(
    sample: str, key: str, value: object, said: str
) -> None:
    record = yaml.safe_load(SAMPLES["cases/records.yaml"])[sample] | {key: value}
    found = refusal({"cases/records.yaml": yaml.safe_dump({"x": record})})
    assert found[0].startswith("cases/records.yaml:") and said in found[0], found


def test_an_agency_s_cases_stand_beside_the_exchange_s_and_are_about_itself() -> None:
    own = {
        "cases/ems/principals.yaml": "medic: {agency: ems, roles: [paramedic], purpose: emergency-response}",
        "cases/ems/intake.yaml": "- {who: medic, record: crash, effect: withhold}",
        "cases/transport/principals.yaml": "medic: {agency: transport, roles: [analyst]}",
        "cases/highway-patrol/own.yaml": (
            "- {who: paramedic, record: crash, effect: release}\n"
            "- {action: subscribe, who: paramedic, topic: crash-reports, effect: release}\n"
        ),
    }
    cases = read(own)
    assert [(case.file, case.agency) for case in cases.cases] == [
        ("cases/ems/intake.yaml", "ems"),
        ("cases/highway-patrol/own.yaml", "highway-patrol"),
        ("cases/highway-patrol/own.yaml", "highway-patrol"),
    ]
    assert {sample.subject.agency for sample in cases.principals if sample.name == "medic"} == {
        "ems",
        "transport",
    }

    about_others = [
        "- {who: statistician, record: crash, effect: release}",
        "- {action: subscribe, who: statistician, topic: crash-reports, effect: release}",
        "- {action: audit, who: auditor, scope: exchange, effect: release}",
    ]
    for text in about_others:
        found = refusal({**own, "cases/ems/intake.yaml": text})
        assert found == [
            "cases/ems/intake.yaml:1: is not about ems's people or records, and this folder is ems's; move it to cases/"
        ]
    taken = refusal({**own, "cases/ems/principals.yaml": "officer: {agency: ems, roles: []}"})
    assert taken[0].startswith("cases/ems/principals.yaml:1: officer: is one of the exchange's too")
    nobody = refusal({"cases/nobody/some.yaml": "[]"})
    assert nobody == ["cases/nobody/: 'nobody' is no registered agency; register it, or rename the folder"]


def expectation(**changes: Any) -> Expectation:
    whole: dict[str, Any] = {
        "effect": Effect.RELEASE,
        "treatments": None,
        "obligations": None,
        "reasons": (),
        "not_before": None,
        "valid_until": None,
    }
    return Expectation(**{**whole, **changes})


KEEP, REMOVE = Treatment(TreatmentKind.KEEP), Treatment(TreatmentKind.REMOVE)
GIVEN = Decision(
    Effect.RELEASE,
    {"pii": KEEP, "medical": Treatment(TreatmentKind.MASK, 0, 2)},
    ("b", "a"),
    ("agreement",),
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    "expected",
    [
        expectation(),
        expectation(treatments=dict(GIVEN.treatments)),
        expectation(obligations=("a", "b"), reasons=("agreement",), not_before="2026-01-01T00:00:00Z"),
    ],
)
def test_what_is_as_expected_differs_in_nothing(expected: Expectation) -> None:
    assert list(compare(expected, GIVEN)) == []


@pytest.mark.parametrize(
    ("expected", "different"),
    [
        (expectation(effect=Effect.WITHHOLD), ("effect", "withhold", "release")),
        (expectation(effect=Effect.NOTICE), ("effect", "notice", "release")),
        (
            expectation(treatments={**GIVEN.treatments, "pii": REMOVE}),
            ("treatments.pii", "remove", "keep"),
        ),
        (
            expectation(treatments={"pii": KEEP, "medical": Treatment(TreatmentKind.MASK)}),
            ("treatments.medical", "mask", "mask (first 0, last 2 kept)"),
        ),
        (
            expectation(treatments={"pii": KEEP}),
            ("treatments.medical", "not mentioned", "mask (first 0, last 2 kept)"),
        ),
        (
            expectation(treatments={**GIVEN.treatments, "x": REMOVE}),
            ("treatments.x", "remove", "not mentioned"),
        ),
        (expectation(obligations=()), ("obligations", "none", "b, a")),
        (expectation(obligations=("a", "b", "c")), ("obligations", "a, b, c", "b, a")),
        (expectation(reasons=("owner",)), ("reasons", "owner", "agreement")),
        (
            expectation(not_before="2026-01-02T00:00:00Z"),
            ("not_before", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        ),
        (expectation(valid_until="2026-01-02T00:00:00Z"), ("valid_until", "2026-01-02T00:00:00Z", "none")),
    ],
)
def test_each_difference_is_told(expected: Expectation, different: tuple[str, str, str]) -> None:
    (found,) = compare(expected, GIVEN)
    assert (found.key, found.expected, found.got) == different


@pytest.mark.parametrize(("times", "asked", "outcomes"), [((None,), 2, 1), ((5,), 5, 5), ((None, 5), 6, 5)])
async def test_no_decision_is_never_as_expected(times: tuple[int | None], asked: int, outcomes: int) -> None:
    """Not even where the case expects that nothing is released. One pause of the machine is not the rules' fault."""
    case = one("who: officer, record: crash, effect: withhold")
    trial = FunctionTrial(lambda _: None, times)
    found = await run_cases(trial, [case] * 5)
    assert (len(trial.asked), len(found)) == (asked, outcomes)
    assert all(outcome.differences for outcome in found)
    assert [outcome.silent for outcome in found] == [times == (None,)] * outcomes


def test_an_outcome_is_compared_with_its_case() -> None:
    case = one("who: officer, record: crash, effect: withhold")
    assert Outcome(case, Decision(Effect.WITHHOLD)).differences == ()
    assert [each.key for each in Outcome(case, Decision(Effect.RELEASE)).differences] == ["effect"]
