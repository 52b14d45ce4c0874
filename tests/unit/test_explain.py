"""Explanations: what each may see of why something was decided, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.explain.agreements import Wanted, nearest
from broker.core.explain.consumer import public_answer
from broker.core.explain.explainer import Explainer, Known
from broker.core.explain.model import Place
from broker.core.rulebook.scope import View
from broker.model.registry import Administration, Agreement, Registry, Vocabulary
from broker.model.rulebook import Revision, revision_id
from broker.ports.policy_engine import Item
from broker.ports.rule_tracer import RuleUse, Trace
from tests.fakes.regimes import TOPIC, TYPE, registry

WORDS = Vocabulary(
    ("clear", "green", "red"), frozenset(), frozenset(), frozenset(), frozenset(), {}, frozenset()
)
WANTED = Wanted("beta", "alerts", "rescue", "green", "2026-06-01T00:00:00Z")
NOW_MS = 1_780_272_000_000  # the same moment


def agreement(name: str = "one", **changed: Any) -> Agreement:
    granted = Agreement(name, "alpha", "beta", frozenset({"alerts"}), ("rescue",), "red", "records")
    return replace(granted, **changed)


def near(*agreements: Agreement, wanted: Wanted = WANTED) -> list[tuple[str, str | None]]:
    found = nearest(agreements, wanted, WORDS, lambda each: Place("file", 1, each.id))
    return [(each.place.what, each.unmet) for each in found]


def test_what_applied_is_shown_alone() -> None:
    assert near(agreement("other", consumer="gamma"), agreement()) == [("one", None)]


@pytest.mark.parametrize(
    ("changed", "unmet"),
    [
        ({"consumer": "gamma"}, "it is with gamma, not beta"),
        ({"topics": frozenset({"maps", "logs"})}, "its topics are logs, maps"),
        ({"topics": frozenset()}, "its topics are none"),
        ({"purposes": ("audit",)}, "its purposes are audit"),
        ({"highest": "clear"}, "it goes up to clear, and the record is green"),
        ({"highest": "unknown"}, "it goes up to unknown, and the record is green"),
        ({"until": "2026-06-01T00:00:00Z"}, "it ended at 2026-06-01T00:00:00Z"),
        ({"until": "2026-06-01T00:00:01Z"}, None),
    ],
)
def test_the_first_condition_that_is_not_met_is_named(changed: dict[str, Any], unmet: str | None) -> None:
    assert near(agreement(**changed)) == [("one", unmet)]


def test_a_topic_is_asked_for_without_a_classification() -> None:
    assert near(agreement(highest="clear"), wanted=replace(WANTED, classification=None)) == [("one", None)]


def test_the_nearest_come_first_and_only_a_few_of_them() -> None:
    far = [agreement(f"far-{n}", consumer="gamma") for n in range(9)]
    found = near(*far, agreement("purpose", purposes=()), agreement("level", highest="clear"))
    assert [name for name, _ in found] == ["level", "purpose", "far-0", "far-1", "far-2"]


FILES = {
    "entente/rules.rego": b"package entente.rules",
    "agencies/alpha/module.rego": b"package agencies.alpha",
    "agencies/beta/module.rego": b"package agencies.beta",
    "data/agreements/alpha/data.yaml": b"first:\n  x: 1\nsecond:\n  x: 1\n",
    "data/agreements/gamma/data.yaml": b"secret:\n  x: 1\n",
    "data/record_types/alpha/data.yaml": TYPE.encode() + b": {}\n",
    "data/topics/data.yaml": b"other: {}\n" + TOPIC.encode() + b": {}\n",
    "data/agencies/beta/data.yaml": b"name: beta\n",
    "data/vocabulary/data.yaml": b"roles: []\n",
}
RULES = tuple(RuleUse(file, 1, "rule") for file in FILES if file.endswith(".rego"))
QUESTION: dict[str, Any] = {
    "action": "deliver",
    "subject": {"agency": "beta", "roles": [], "attributes": {}, "purpose": "rescue"},
    "topic": TOPIC,
    "record": {"type": TYPE, "agency": "alpha", "labels": {"dataclassification": "green"}, "markings": []},
}


class FixedTracer:
    """Always the same trace."""

    def __init__(self, *reasons: str) -> None:
        self.output: dict[str, object] = {"effect": "withhold", "reasons": list(reasons)}

    async def trace(self, revision: Revision, item: Item) -> Trace:
        assert item["id"]
        return Trace(self.output, RULES, ("agencies", "agreements", "record_types", "topics", "vocabulary"))


def known(**more: bytes) -> Known:
    files = FILES | more
    agreements = (
        agreement("second", topics=frozenset({TOPIC})),
        agreement("secret", owner="gamma", topics=frozenset({TOPIC})),
    )
    registered = replace(registry(), agreements=agreements)
    return Known(Revision(revision_id(files), files, False), registered)


async def explained(question: Mapping[str, Any], view: View, *reasons: str) -> Any:
    return await Explainer(FixedTracer(*reasons)).explain(known(), question, view, NOW_MS)


async def test_who_sees_all_sees_all() -> None:
    found = await explained(QUESTION, View(), "beta: not for us", "no-agreement")
    assert [place.file for place in found.rules] == [use.file for use in RULES]
    assert found.output["reasons"] == ["beta: not for us", "no-agreement"]
    assert [(place.file, place.line) for place in found.data] == [
        ("data/agencies/beta/data.yaml", 1),
        ("data/topics/data.yaml", 2),
        ("data/record_types/alpha/data.yaml", 1),
        ("data/vocabulary/data.yaml", 1),
    ]
    (near_by,) = found.agreements
    assert (near_by.place.file, near_by.place.line) == ("data/agreements/alpha/data.yaml", 3)


async def test_an_owner_sees_its_own_side_and_not_the_others() -> None:
    found = await explained(QUESTION, View("alpha"), "beta: not for us", "beta: secretly", "no-agreement")
    assert {place.file for place in found.rules} == {"entente/rules.rego", "agencies/alpha/module.rego"}
    assert "beta" not in " ".join(found.output["reasons"])
    assert found.output["reasons"][1:] == ["no-agreement"]
    assert "data/agencies/beta/data.yaml" not in {place.file for place in found.data}


async def test_of_a_topic_an_owner_is_shown_its_own_agreements_only() -> None:
    question = {**QUESTION, "action": "subscribe"}
    del question["record"]
    everybody = await explained(question, View())
    own = await explained(question, View("alpha"))
    assert {each.place.what for each in everybody.agreements} == {
        "agreement alpha/second",
        "agreement gamma/secret",
    }
    assert {each.place.what for each in own.agreements} == {"agreement alpha/second"}


async def test_somebody_elses_agreements_are_shown_to_nobody() -> None:
    found = await explained(QUESTION, View("gamma"))
    assert found.agreements == ()


class Watched(dict[str, bytes]):
    """Files that know in which threads they were read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.readers: set[int] = set()

    def __getitem__(self, path: str) -> bytes:
        self.readers.add(threading.get_ident())
        return super().__getitem__(path)


async def test_what_reads_a_whole_rulebook_does_so_beside_the_event_loop() -> None:
    found = known()
    files = Watched(found.revision.files)
    watched = replace(found, revision=replace(found.revision, files=files))
    assert (await Explainer(FixedTracer()).explain(watched, QUESTION, View(), NOW_MS)).agreements
    assert files.readers
    assert threading.get_ident() not in files.readers


@pytest.mark.parametrize("asked", [{}, {"time": "2026-01-01T00:00:00Z"}])
async def test_rules_that_depend_on_the_time_are_given_it(asked: dict[str, str]) -> None:
    found = known()
    timed = replace(found, revision=replace(found.revision, time_dependent=True))
    for each, time in ((timed, {"time": WANTED.time} | asked), (found, asked)):
        explanation = await Explainer(FixedTracer()).explain(each, QUESTION | asked, View(), NOW_MS)
        assert explanation.question == QUESTION | time


async def test_explaining_twice_gives_the_same() -> None:
    assert await explained(QUESTION, View()) == await explained(QUESTION, View())


def public() -> Registry:
    return replace(
        registry(),
        administration=Administration(1, 1, 24, frozenset({"role-unregistered", "purpose-unregistered"})),
    )


def test_who_was_refused_is_told_what_is_public_and_whom_to_ask() -> None:
    reasons = ["no-agreement", "role-unregistered", "purpose-unregistered"]
    told = public_answer({"action": "subscribe", "topic": TOPIC}, reasons, public(), may_know=True)
    assert told.reasons == ("purpose-unregistered", "role-unregistered")
    assert told.ask == "desk@alpha.example"


@given(
    reasons=st.lists(
        st.sampled_from(["no-agreement", "topic-unknown", "clearance-too-low", "agreement a/b"])
    ),
    topic=st.sampled_from([TOPIC, "missing"]),
)
def test_a_hidden_topic_and_a_missing_one_have_one_answer(reasons: list[str], topic: str) -> None:
    question: dict[str, Any] = {"action": "subscribe", "topic": topic}
    assert public_answer(question, reasons, public(), may_know=False) == public_answer(
        {"action": "subscribe", "topic": "another"}, [], public(), may_know=False
    )


@given(reasons=st.lists(st.sampled_from(["no-agreement", "role-unregistered", "engine_fault"])))
def test_of_records_nothing_is_told(reasons: list[str]) -> None:
    told = public_answer(QUESTION, reasons, public(), may_know=False)
    assert told == public_answer(QUESTION, [], public(), may_know=False)
    assert told.reasons == ()


def test_a_rulebook_that_marks_nothing_public_tells_nothing() -> None:
    told = public_answer(
        {"action": "publish", "topic": TOPIC}, ["role-unregistered"], registry(), may_know=True
    )
    assert told.reasons == ()
