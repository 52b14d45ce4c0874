"""The skeleton of a new agency: well-formed whatever the rulebook's words are, and granting nobody anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.rulebook.cases import Cases, read_cases
from broker.core.rulebook.guarantees import read_guarantees
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.skeleton import NotNew, Registration, skeleton
from broker.core.rulebook.texts import check_texts
from broker.model.decision import Effect
from tests.fakes.rulebook import ROOT

DEFAULT = read_rulebook(ROOT / "policy")
REGISTRY = parse_registry(DEFAULT)
CASES = read_cases(DEFAULT, REGISTRY)
PLAIN = Registration("road-works", "Road Works", "x@road-works.example")

REGISTRATIONS = {
    "as little as possible": PLAIN,
    "all of it": replace(PLAIN, roles=("analyst",), purposes=("cyber-defence",), clearance="amber"),
    "the highest clearance": replace(PLAIN, clearance="red"),
    "texts that mean something in YAML": replace(PLAIN, title="it's: #1 [x] {y} 'z'", contact="- @ null"),
    "a name that means something in YAML": replace(PLAIN, name="null"),
    "a name that means something in Rego": replace(PLAIN, name="every"),
    "a name of digits": replace(PLAIN, name="007"),
}


@pytest.mark.parametrize("given", REGISTRATIONS.values(), ids=REGISTRATIONS.keys())
@pytest.mark.parametrize("time_dependent", [False, True])
def test_what_is_made_is_read_back(given: Registration, time_dependent: bool) -> None:
    without_cases = {path: text for path, text in DEFAULT.files.items() if not path.startswith("cases/")}
    samples = {path: DEFAULT.files[path] for path in ("cases/principals.yaml", "cases/records.yaml")}
    manifest = f"time_dependent: {str(time_dependent).lower()}".encode()
    made = skeleton(given, REGISTRY, CASES, DEFAULT.files, time_dependent=time_dependent)
    new = {path: text.encode() for path, text in made.items()}
    revision = revision_of({**without_cases, **samples, "manifest.yaml": manifest, **new})
    registry = parse_registry(revision)

    agency = registry.agencies[given.name]
    assert (agency.title, agency.contact, agency.issuers) == (given.title, given.contact, ())
    assert agency.roles == frozenset(given.roles or ["agency-admin"])
    assert agency.attributes == {"clearance": given.clearance or "clear"}
    assert list(check_texts(new)) == []
    cases = read_cases(revision, registry)
    assert len(cases.cases) == 3 and {case.expected.effect for case in cases.cases} == {Effect.WITHHOLD}
    own = [each for each in read_guarantees(revision, registry) if each.agency == given.name]
    assert len(own) == (0 if given.clearance == "red" else 1)
    assert all(text.endswith("\n") and "\t\n" not in text for text in made.values())


def test_without_records_its_cases_are_about_subscribing() -> None:
    made = skeleton(PLAIN, REGISTRY, Cases((), (), (), ()), DEFAULT.files, time_dependent=False)
    assert (
        "- {action: subscribe, who: road-works-member, topic: crash-reports, effect: withhold}"
        in (made["cases/road-works/receiving.yaml"])
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (replace(PLAIN, name="ems"), "'ems' is a registered agency already"),
        (
            replace(PLAIN, roles=("boss",)),
            "'boss' is no role of the vocabulary; use one of: agency-admin, analyst",
        ),
        (replace(PLAIN, purposes=("fun",)), "'fun' is no purpose of the vocabulary"),
        (
            replace(PLAIN, clearance="pink"),
            "'pink' is no classification of the vocabulary; use one of: clear, green",
        ),
    ],
)
def test_what_cannot_be_added_is_told(given: Registration, said: str) -> None:
    with pytest.raises(NotNew, match="; ") as refused:
        skeleton(given, REGISTRY, CASES, DEFAULT.files, time_dependent=False)
    assert said in str(refused.value)


@pytest.mark.parametrize("path", ["agencies/road-works/module.rego", "cases/road-works/old.yaml"])
def test_nothing_is_overwritten(path: str) -> None:
    with pytest.raises(NotNew, match="holds files already"):
        skeleton(PLAIN, REGISTRY, CASES, {**DEFAULT.files, path: b""}, time_dependent=False)
