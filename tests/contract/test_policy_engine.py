"""What every policy engine keeps: only well-formed answers become decisions, and each item stands alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.adapters.opa import OpaEngine, OpaSettings
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.ports.policy_engine import PolicyEngine
from tests.fakes.malformed import MALFORMED
from tests.fakes.policy_engine import ScriptedEngine
from tests.fakes.rulebook import Script, item, output, scripted_rulebook

Start = Callable[[Script], Awaitable[PolicyEngine]]


@pytest.fixture(params=["scripted", pytest.param("opa", marks=pytest.mark.opa)])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    started: list[PolicyEngine] = []

    async def build(script: Script) -> PolicyEngine:
        if request.param == "scripted":
            started.append(ScriptedEngine(script))
        else:
            opa: Path = request.getfixturevalue("opa_binary")
            settings = OpaSettings(deadline_s=30)  # no test here is about time
            started.append(await OpaEngine.start(opa, scripted_rulebook(script), settings))
        return started[-1]

    yield build
    for engine in started:
        await engine.close()


FULL = output(
    effect="release",
    treatments={
        "pii": {"kind": "mask", "keep_first": 1, "keep_last": 2},
        "medical": {"kind": "remove"},
        "criminal": {"kind": "mask"},
        "identifier": {"kind": "pseudonym"},
        "operational": {"kind": "keep"},
    },
    obligations=["delete-after-90-days"],
    reasons=["agreement"],
    not_before="2026-01-01T00:00:00Z",
    valid_until="2026-07-01T12:30:00Z",
)


async def test_a_full_answer_is_read_whole(start: Start) -> None:
    engine = await start({"full": [FULL]})
    assert await engine.decide([item("7", "full")]) == {
        "7": Decision(
            effect=Effect.RELEASE,
            treatments={
                "pii": Treatment(TreatmentKind.MASK, 1, 2),
                "medical": Treatment(TreatmentKind.REMOVE),
                "criminal": Treatment(TreatmentKind.MASK),
                "identifier": Treatment(TreatmentKind.PSEUDONYM),
                "operational": Treatment(TreatmentKind.KEEP),
            },
            obligations=("delete-after-90-days",),
            reasons=("agreement",),
            not_before=datetime(2026, 1, 1, tzinfo=UTC),
            valid_until=datetime(2026, 7, 1, 12, 30, tzinfo=UTC),
        )
    }


async def test_answers_are_matched_by_id(start: Start) -> None:
    engine = await start({"a": [output(effect="release")], "b": [output(effect="notice")]})
    items = [item(str(n), "a" if n % 3 else "b") for n in range(100)]
    answers = await engine.decide(items)
    assert {key: answer.effect.value for key, answer in answers.items()} == {
        str(n): "release" if n % 3 else "notice" for n in range(100)
    }


async def test_a_malformed_answer_is_no_decision_for_its_item_only(start: Start) -> None:
    engine = await start({**MALFORMED, "good": [output(effect="release")]})
    items = [item(topic, topic) for topic in MALFORMED] + [item("good", "good")]
    assert (await engine.decide(items)).keys() == {"good"}


WRONG_ITEMS: dict[str, dict[str, object]] = {
    "topic-number": {**item("topic-number", "good"), "topic": 5},
    "no-action": {k: v for k, v in item("no-action", "good").items() if k != "action"},
    "unknown-action": item("unknown-action", "good", action="drop"),
    "unknown-member": item("unknown-member", "good", payload={"name": "x"}),
    "roles-text": item(
        "roles-text", "good", subject={"agency": "ems", "roles": "paramedic", "attributes": {}}
    ),
    "clearance-number": item(
        "clearance-number",
        "good",
        subject={"agency": "e", "roles": [], "attributes": {"clearance": 5}, "purpose": "p"},
    ),
    "record-null": item("record-null", "good", record=None),
    "labels-missing": item("labels-missing", "good", record={"type": "t", "agency": "a", "markings": []}),
}


async def test_a_wrongly_typed_item_has_no_decision_and_harms_no_other(start: Start) -> None:
    engine = await start({"good": [output(effect="release")]})
    assert (await engine.decide([*WRONG_ITEMS.values(), item("good", "good")])).keys() == {"good"}
    assert await engine.decide(list(WRONG_ITEMS.values())) == {}


async def test_no_items_give_no_decisions(start: Start) -> None:
    assert await (await start({})).decide([]) == {}


async def test_an_id_used_twice_is_a_mistake_of_the_caller(start: Start) -> None:
    engine = await start({"good": [output()]})
    with pytest.raises(ValueError, match=r"id|different"):
        await engine.decide([item("1", "good"), item("1", "good")])


async def test_it_names_its_revision_and_version(start: Start) -> None:
    engine = await start({})
    assert engine.revision == scripted_rulebook({}).id
    assert len(engine.version.split()) == 2


async def test_closing_twice_is_harmless(start: Start) -> None:
    engine = await start({})
    await engine.close()
    await engine.close()
