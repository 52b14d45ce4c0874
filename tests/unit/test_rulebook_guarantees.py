"""Guarantees: what is refused and where, what they are held against, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from broker.core.rulebook.cases import Cases, read_cases
from broker.core.rulebook.guarantees import Guarantee, read_guarantees
from broker.core.rulebook.guarantees.matrix import Matrix
from broker.core.rulebook.guarantees.run import MATRIX_LIMIT, GuaranteeOutcome, run_guarantees
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.errors import RulebookRefused
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.ports.policy_engine import Item
from tests.fakes.rulebook import ROOT
from tests.fakes.trial import FunctionTrial

DEFAULT = read_rulebook(ROOT / "policy")
REGISTRY = parse_registry(DEFAULT)
CASES = read_cases(DEFAULT, REGISTRY)
NONE = Cases((), (), (), ())
PLAIN = {path: content for path, content in DEFAULT.files.items() if not path.endswith("/guarantees.yaml")}
PATROL, EMS = "agencies/highway-patrol/guarantees.yaml", "agencies/ems/guarantees.yaml"
EXCHANGE = "entente/guarantees.yaml"


def read(text: str, path: str = PATROL) -> tuple[Guarantee, ...]:
    return read_guarantees(revision_of({**PLAIN, path: text.encode()}), REGISTRY)


def one(text: str, path: str = PATROL) -> Guarantee:
    (guarantee,) = read(f"x: {{why: because, {text}}}", path)
    return guarantee


def refusal(text: str, path: str = PATROL) -> str:
    with pytest.raises(RulebookRefused) as refused:
        read(text, path)
    assert all("\n" not in finding and "; " in finding for finding in refused.value.findings)
    return "\n".join(refused.value.findings)


def test_the_default_rulebook_s_guarantees_are_read_with_their_places() -> None:
    guarantees = read_guarantees(DEFAULT, REGISTRY)
    assert len(guarantees) > 3
    for guarantee in guarantees:
        line = DEFAULT.files[guarantee.file].decode().splitlines()[guarantee.line - 1]
        assert line == f"{guarantee.name}:"


WRONG = {
    "nothing": (PATROL, "side: owner", "needs 'never' or 'never_keep'"),
    "both": (PATROL, "side: owner, never: [release], never_keep: [pii]", "leave out 'never_keep'"),
    "no side": (
        PATROL,
        "never: [release]",
        "x: an agency guarantees something of its own; add `side: owner`",
    ),
    "a side of the exchange": (EXCHANGE, "side: owner, never: [release]", "x.side: the exchange has no side"),
    "others' records": (
        PATROL,
        "side: owner, records: {owners: [ems]}, never: [release]",
        "are highway-patrol's own",
    ),
    "others' people": (
        EMS,
        "side: consumer, subjects: {agencies: [transport]}, never: [release]",
        "are ems's own",
    ),
    "an unknown key": (PATROL, "side: owner, never: [release], unless: []", "x.unless: unknown key"),
    "another effect": (PATROL, "side: owner, never: [withhold]", "x.never.0: "),
    "a marking that is none": (PATROL, "side: owner, never_keep: [pie]", "x.never_keep: 'pie' is no marking"),
    "no such agency": (
        PATROL,
        "side: owner, subjects: {agencies: [esm]}, never: [release]",
        "x.subjects.agencies: 'esm' is no registered agency",
    ),
    "an empty list": (
        PATROL,
        "side: owner, subjects: {agencies: []}, never: [release]",
        "x.subjects.agencies: ",
    ),
    "no such role": (
        PATROL,
        "side: owner, except: [{roles: [boss]}], never: [release]",
        "x.except.0.roles: 'boss'",
    ),
    "no such purpose": (
        PATROL,
        "side: owner, subjects: {purposes: [fun]}, never: [release]",
        "purposes: 'fun'",
    ),
    "no such attribute": (
        PATROL,
        "side: owner, subjects: {clearence: [red]}, never: [release]",
        "unknown key",
    ),
    "attributes of their own": (
        PATROL,
        "side: owner, subjects: {attributes: {}}, never: [release]",
        "unknown key",
    ),
    "no such clearance": (
        PATROL,
        "side: owner, subjects: {clearance: [pink]}, never: [release]",
        "'pink' is no class",
    ),
    "no such topic": (
        PATROL,
        "side: owner, records: {topics: [x]}, never: [release]",
        "x.records.topics: 'x'",
    ),
    "no such type": (PATROL, "side: owner, records: {types: [x]}, never: [release]", "x.records.types: 'x'"),
    "no such label": (
        PATROL,
        "side: owner, records: {labels: {dataregulation: [XYZ]}}, never: [release]",
        "x.records.labels.dataregulation: 'XYZ' is no dataregulation that is known",
    ),
}


@pytest.mark.parametrize(("path", "text", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_guarantee_that_protects_nothing_is_refused_at_its_place(path: str, text: str, said: str) -> None:
    found = refusal(f"# a comment\nx: {{why: because, {text}}}\n", path)
    assert found.startswith(f"{path}:2: ") and said in found, found


def test_files_that_are_no_guarantees() -> None:
    assert refusal("[]").startswith(f"{PATROL}:1: ")
    assert refusal("x: 1").startswith(f"{PATROL}:1: x: ")
    assert refusal("x: {why: a, why: b}").startswith(f"{PATROL}: line 1: key 'why' stands twice")
    assert "no registered agency" in refusal("{}", "agencies/nobody/guarantees.yaml")


async def hold(
    guarantee: Guarantee, decide: Callable[[Item], Decision | None], cases: Cases = CASES
) -> GuaranteeOutcome:
    (outcome,) = await run_guarantees(FunctionTrial(decide), [guarantee], REGISTRY, cases)
    return outcome


def release(**treatments: Treatment) -> Decision:
    return Decision(Effect.RELEASE, treatments)


def always(decision: Decision | None) -> Callable[[Item], Decision | None]:
    return lambda _: decision


KEEP = Treatment(TreatmentKind.KEEP)
BROKEN = {
    "released": ("never: [release]", release(), "would receive"),
    "told of": ("never: [notice]", Decision(Effect.NOTICE), "would be told of"),
    "either": ("never: [release, notice]", Decision(Effect.NOTICE), "would be told of"),
    "kept": ("never_keep: [pii]", release(pii=KEEP), "with pii treated as keep"),
    "kept in part": (
        "never_keep: [medical, pii]",
        release(pii=Treatment(TreatmentKind.MASK, 0, 2)),
        "with pii treated as mask (first 0, last 2 kept)",
    ),
}


@pytest.mark.parametrize(("text", "decision", "said"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_breaks_a_guarantee(text: str, decision: Decision, said: str) -> None:
    outcome = await hold(one(f"side: owner, {text}"), always(decision))
    assert not outcome.holds and outcome.checked == 1
    assert said in str(outcome.counterexample)
    assert "gov.niem.crash-driver.v1 of highway-patrol on crash-reports" in str(outcome.counterexample)


KEPT = {
    "withheld": ("never: [release, notice]", Decision(Effect.WITHHOLD)),
    "a notice": ("never: [release]", Decision(Effect.NOTICE)),
    "a release": ("never: [notice]", release(pii=KEEP)),
    "another marking": ("never_keep: [medical]", release(pii=KEEP)),
    "removed": ("never_keep: [pii]", release(pii=Treatment(TreatmentKind.REMOVE))),
    "a pseudonym": ("never_keep: [pii]", release(pii=Treatment(TreatmentKind.PSEUDONYM))),
    "masked whole": ("never_keep: [pii]", release(pii=Treatment(TreatmentKind.MASK))),
    "not mentioned, and so removed": ("never_keep: [pii]", release()),
    "a notice that keeps": ("never_keep: [pii]", Decision(Effect.NOTICE, {"pii": KEEP})),
}


@pytest.mark.parametrize(("text", "decision"), KEPT.values(), ids=KEPT.keys())
async def test_what_does_not(text: str, decision: Decision) -> None:
    outcome = await hold(one(f"side: owner, {text}"), always(decision))
    assert outcome.holds and outcome.complete and outcome.checked > 500


async def test_no_decision_is_no_proof() -> None:
    missing = await hold(one("side: owner, never: [release]"), always(None))
    assert missing.unanswered and not missing.holds
    silent: Any = FunctionTrial(always(release()), silent=True)
    (outcome,) = await run_guarantees(silent, [one("side: owner, never: [release]")], REGISTRY, CASES)
    assert outcome.unanswered and not outcome.holds


def asked_about(guarantee: Guarantee, cases: Cases = CASES) -> list[tuple[Any, Any]]:
    return list(Matrix(REGISTRY, cases).about(guarantee, 10**6).combinations)


def test_everybody_in_reach_is_meant_but_who_owns_the_record() -> None:
    combinations = asked_about(one("side: owner, never: [release]"))
    assert len(set(combinations)) == len(combinations)
    assert {subject.agency for subject, _ in combinations} == REGISTRY.agencies.keys() - {"highway-patrol"}
    assert {record.owner for _, record in combinations} == {"highway-patrol"}
    ems = {subject for subject, _ in combinations if subject.agency == "ems"}
    assert {subject.roles for subject in ems} >= {
        ("paramedic",),
        ("volunteer",),
        ("agency-admin", "paramedic", "volunteer"),
    }
    assert {subject.attributes for subject in ems} == {(("clearance", "red"),), (("clearance", "clear"),)}
    labels = {record.labels for _, record in combinations}
    assert {each.dataclassification for each in labels} == set(REGISTRY.vocabulary.classifications)
    assert {word for each in labels for word in each.dataregulation} == REGISTRY.vocabulary.regulations
    assert {each.datacategory for each in labels} == REGISTRY.vocabulary.categories | {""}
    assert {each.releasableto for each in labels} >= {(), ("ems",), ("transport",)}
    crash = next(sample.labels for sample in CASES.records if sample.name == "crash")
    assert crash in labels, "what occurs in cases is tried"
    assert crash not in {
        record.labels for _, record in asked_about(one("side: owner, never: [release]"), NONE)
    }


def test_own_people_are_meant_where_they_are_named() -> None:
    named = asked_about(one("side: owner, subjects: {agencies: [highway-patrol]}, never: [release]"))
    assert {subject.agency for subject, _ in named} == {"highway-patrol"}
    own_people = asked_about(one("side: consumer, never: [release]", "agencies/cyber-centre/guarantees.yaml"))
    assert {subject.agency for subject, _ in own_people} == {"cyber-centre"}
    assert {record.owner for _, record in own_people} == {"cyber-centre", "highway-patrol"}


PATTERNS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "agencies": ("subjects: {agencies: [ems, transport]}", lambda s, r: s.agency in {"ems", "transport"}),
    "roles": ("subjects: {roles: [volunteer]}", lambda s, r: "volunteer" in s.roles),
    "purposes": ("subjects: {purposes: [cyber-defence]}", lambda s, r: s.purpose == "cyber-defence"),
    "clearance": (
        "subjects: {clearance: [clear, green]}",
        lambda s, r: dict(s.attributes)["clearance"] in "clear green",
    ),
    "but not": (
        "except: [{agencies: [ems]}, {roles: [analyst]}]",
        lambda s, r: s.agency != "ems" and "analyst" not in s.roles,
    ),
    "classification": (
        "records: {labels: {dataclassification: [red, green]}}",
        lambda s, r: r.labels.dataclassification in {"red", "green"},
    ),
    "regulation": (
        "records: {labels: {dataregulation: [GDPR]}}",
        lambda s, r: "GDPR" in r.labels.dataregulation,
    ),
    "purposes of records": (
        "records: {labels: {purposes: [emergency-response]}}",
        lambda s, r: "emergency-response" in r.labels.purposes,
    ),
    "recipients": ("records: {labels: {releasableto: [ems]}}", lambda s, r: "ems" in r.labels.releasableto),
    "topics": ("records: {topics: [crash-reports]}", lambda s, r: r.topic == "crash-reports"),
}


@pytest.mark.parametrize(("text", "fits"), PATTERNS.values(), ids=PATTERNS.keys())
def test_patterns_choose_exactly_what_they_say(text: str, fits: Callable[[Any, Any], bool]) -> None:
    everything = asked_about(one("side: owner, never: [release]"))
    chosen = asked_about(one(f"side: owner, {text}, never: [release]"))
    assert set(chosen) == {each for each in everything if fits(*each)}
    assert chosen


def test_what_cannot_be_is_about_nobody() -> None:
    nobody = "side: owner, subjects: {agencies: [ems], roles: [officer]}, never: [release]"
    assert asked_about(one(nobody)) == []
    assert asked_about(one("side: owner, records: {types: [gov.cisa.kev.v1]}, never: [release]")) == []


def test_of_too_many_an_even_part_is_taken_always_the_same() -> None:
    guarantee = one("never: [release]", EXCHANGE)
    reach = Matrix(REGISTRY, CASES).about(guarantee, 400)
    assert not reach.complete and 300 < len(reach.combinations) <= 400
    assert reach == Matrix(REGISTRY, CASES).about(guarantee, 400)
    assert {subject.agency for subject, _ in reach.combinations} == REGISTRY.agencies.keys()
    assert {record.type for _, record in reach.combinations} == REGISTRY.record_types.keys()
    granted = {(agreement.owner, agreement.consumer) for agreement in REGISTRY.agreements}
    near = [pair for pair in reach.combinations if (pair[1].owner, pair[0].agency) in granted]
    assert len(near) >= 300, "most are where an agreement stands between the two"


async def test_all_guarantees_together_are_bounded_and_share_what_they_ask() -> None:
    trial = FunctionTrial(always(Decision(Effect.WITHHOLD)))
    wide = [one("never: [release]", EXCHANGE) for _ in range(4)]
    narrow = one("side: owner, subjects: {agencies: [ems]}, never: [release]")
    outcomes = await run_guarantees(trial, [*wide, narrow], REGISTRY, CASES)
    assert sum(outcome.checked for outcome in outcomes) <= MATRIX_LIMIT
    assert [outcome.complete for outcome in outcomes] == [False, False, False, False, True]
    # All four are held against the same combinations, which are asked once.
    assert len(trial.asked) < sum(outcome.checked for outcome in outcomes) / 3


async def test_items_are_as_the_broker_sends_them() -> None:
    import jsonschema_rs
    import orjson

    trial = FunctionTrial(always(Decision(Effect.WITHHOLD)))
    await run_guarantees(trial, [one("side: owner, never: [release]")], REGISTRY, CASES)
    validator = jsonschema_rs.Draft7Validator(orjson.loads(DEFAULT.files["schemas/input.schema.json"]))
    validator.validate({"items": trial.asked[:100]})
    assert all("time" not in item for item in trial.asked)

    dependent = FunctionTrial(always(Decision(Effect.WITHHOLD)))
    times = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
    timed = Cases((), CASES.principals, CASES.records, times)
    (outcome,) = await run_guarantees(dependent, [one("side: owner, never: [release]")], REGISTRY, timed)
    assert {item["time"] for item in dependent.asked} == set(times)
    assert outcome.checked == 2 * len(trial.asked)
