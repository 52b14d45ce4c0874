"""What the ledger names of a decision is all that it takes to make it again: the input with its time, and the output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from broker.core.decide import ENGINE_FAULT, Decider, DeciderLimits, Question, Ruling
from broker.core.evidence import decisions
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.model.rulebook import Rules
from tests.fakes.clock import TurnedClock
from tests.fakes.policy_engine import ScriptedEngine
from tests.fakes.regimes import RULES
from tests.fakes.rulebook import output
from tests.unit.test_decide import question

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
RELEASE = output(effect="release")

Make = Callable[..., Decider]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock(NOON)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine({"open": [RELEASE], "vanishing": []})


@pytest.fixture
async def make(engine: ScriptedEngine, clock: TurnedClock) -> AsyncIterator[Make]:
    made: list[Decider] = []

    def build(time_dependent: bool) -> Decider:
        limits = DeciderLimits(strike_spacing_s=1.0)
        made.append(Decider(engine, clock, time_dependent=time_dependent, limits=limits))
        return made[-1]

    yield build
    for decider in made:
        await decider.close()


async def ruling_on(decider: Decider, asked: Question) -> Ruling:
    (decision,) = await decider.decide([asked])
    assert decision is not None
    return Ruling.of(asked, decision, RULES)


async def test_the_input_is_what_the_engine_was_asked_but_for_its_number(
    make: Make, engine: ScriptedEngine
) -> None:
    for time_dependent in (False, True):
        value: Any = (await ruling_on(make(time_dependent), question())).value
        sent = dict(engine.batches[-1][0])
        del sent["id"]
        assert value["input"] == sent
        assert ("time" in value["input"]) is time_dependent
        assert value["output"]["effect"] == "release"


async def test_a_decision_that_is_remembered_names_the_time_at_which_it_was_asked(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    engine.answer("open", [output(effect="release", valid_until="2026-01-01T12:01:00Z")])
    decider = make(True)
    first = await ruling_on(decider, question())
    clock.advance(30)
    again: Any = await ruling_on(decider, question())
    assert again == first
    assert again.value["input"]["time"] == "2026-01-01T12:00:00Z"
    clock.advance(30)
    later = await ruling_on(decider, question())
    assert later != first


async def test_a_fault_names_its_time_too(make: Make, clock: TurnedClock) -> None:
    decider = make(True)
    found: list[Decision | None] = [None]
    times = []
    while found[0] is None:
        times.append(clock.now_ms())
        found = await decider.decide([question("vanishing")])
        clock.advance(10)
    (fault,) = found
    assert fault is not None
    assert fault.reasons == (ENGINE_FAULT,)
    value: Any = Ruling.of(question("vanishing"), fault, RULES).value
    assert value["input"]["time"].startswith("2026-01-01T12:00:")
    assert value["output"] == {
        "effect": "withhold",
        "treatments": {},
        "obligations": [],
        "reasons": [ENGINE_FAULT],
    }


def test_rulings_are_equal_by_what_they_say() -> None:
    release = Decision(Effect.RELEASE, {"pii": Treatment(TreatmentKind.MASK, keep_last=2)})
    alike = Decision(Effect.RELEASE, {"pii": Treatment(TreatmentKind.MASK, keep_last=2)})
    other = Decision(Effect.RELEASE, {"pii": Treatment(TreatmentKind.MASK, keep_last=3)})
    first, second = Ruling.of(question(), release, RULES), Ruling.of(question(), alike, RULES)
    third, fourth = Ruling.of(question(), other, RULES), Ruling.of(question(label="x"), release, RULES)
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, third, fourth}) == 3
    assert decisions([first, third, second, fourth, third], RULES) == [first.value, third.value, fourth.value]


def test_an_entry_says_of_a_decision_by_which_other_rules_it_was_made() -> None:
    earlier, later = RULES, Rules("sha256:1", RULES.engine)
    ruling, again = (Ruling.of(question(), Decision(Effect.WITHHOLD), rules) for rules in (earlier, later))
    assert ruling != again
    assert "under" not in ruling.value
    assert ruling.told_under(earlier) == ruling.value
    assert ruling.told_under(later) == {
        **ruling.value,
        "under": {"revision": "sha256:0", "engine": "scripted 1"},
    }
    assert decisions([ruling, again], later) == [ruling.told_under(later), again.value]


def test_a_ruling_is_told_by_its_size_and_not_by_its_content() -> None:
    """What is printed of it, in a log perhaps, holds no input."""
    ruling = Ruling.of(question(label="a-secret-word"), Decision(Effect.WITHHOLD), RULES)
    assert ruling.size_bytes > 200
    assert "secret" not in repr(ruling)
