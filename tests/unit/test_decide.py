"""The decider: memo, single flight, lanes, quota, time and faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from broker.core.decide import ENGINE_FAULT, Decider, DeciderLimits, Question, make_question
from broker.errors import NoDecision
from broker.model.decision import Decision, Effect
from tests.fakes.clock import TurnedClock
from tests.fakes.policy_engine import ScriptedEngine
from tests.fakes.rulebook import item, output

RELEASE = output(effect="release")
SCRIPT = {"open": [RELEASE], "closed": [output()], "vanishing": [], "malformed": [output(effect="maybe")]}


def question(
    topic: str = "open", owner: str = "highway-patrol", label: str = "", **changes: object
) -> Question:
    whole = item("", topic, **changes)
    del whole["id"]
    record: Any = whole["record"]
    return make_question(
        whole | {"record": record | {"labels": record["labels"] | {"datacategory": label}}}, owner
    )


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(SCRIPT)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock(1_767_225_600_000)  # 2026-01-01T00:00:00Z


Make = Callable[..., Decider]


@pytest.fixture
async def make(engine: ScriptedEngine, clock: TurnedClock) -> AsyncIterator[Make]:
    made: list[Decider] = []

    def build(time_dependent: bool = False, **limits: Any) -> Decider:
        made.append(Decider(engine, clock, time_dependent=time_dependent, limits=DeciderLimits(**limits)))
        return made[-1]

    yield build
    for decider in made:
        await decider.close()


def effects(decisions: list[Decision | None]) -> list[str | None]:
    return [None if decision is None else decision.effect.value for decision in decisions]


async def settled(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds; the test's own timeout is the bound."""
    while not condition():  # noqa: ASYNC110 -- no event of the decider says it
        await asyncio.sleep(0)


async def test_answers_in_order_and_asks_each_question_once(make: Make, engine: ScriptedEngine) -> None:
    decider = make()
    questions = [question("open"), question("closed"), question("open"), question("open", label="a")]
    assert effects(await decider.decide(questions)) == ["release", "withhold", "release", "release"]
    assert [len(batch) for batch in engine.batches] == [3]
    assert effects(await decider.decide(questions)) == ["release", "withhold", "release", "release"]
    assert len(engine.batches) == 1
    assert decider.counters["recalled"] == 4


async def test_whatever_differs_in_the_item_is_another_question(make: Make, engine: ScriptedEngine) -> None:
    base = item("", "open")
    subject: Any = base["subject"]
    record: Any = base["record"]
    variants = [
        base,
        base | {"subject": subject | {"purpose": "other"}},
        base | {"subject": subject | {"roles": []}},
        base | {"subject": subject | {"attributes": {"clearance": "red"}}},
        base | {"record": record | {"agency": "cyber-centre"}},
        base | {"record": record | {"markings": ["pii", "unreviewed"]}},
        base | {"record": record | {"type": "gov.example.v2"}},
        base | {"topic": "closed"},
    ]
    questions = [make_question({k: v for k, v in v.items() if k != "id"}, "highway-patrol") for v in variants]
    await make().decide(questions)
    assert len({q.key for q in questions}) == len(variants) == len(engine.batches[0])


async def test_member_order_is_no_difference() -> None:
    one = {"action": "deliver", "topic": "t"}
    assert make_question(one, "a") == make_question(dict(reversed(one.items())), "a")


async def test_equal_open_questions_share_one_answer(make: Make, engine: ScriptedEngine) -> None:
    engine.hold = asyncio.Event()
    decider = make()
    first = asyncio.create_task(decider.decide([question()]))
    await settled(lambda: len(engine.batches) == 1)
    second = asyncio.create_task(decider.decide([question()]))
    await asyncio.sleep(0)
    engine.hold.set()
    assert effects(await first) == effects(await second) == ["release"]
    assert len(engine.batches) == 1


async def test_batches_are_bounded_and_of_one_owner(make: Make, engine: ScriptedEngine) -> None:
    decider = make(batch_items=3)
    questions = [question(label=str(n), owner=owner) for n in range(5) for owner in ("ems", "transport")]
    assert effects(await decider.decide(questions)) == ["release"] * 10
    assert sorted(len(batch) for batch in engine.batches) == [2, 2, 3, 3]


async def test_an_engine_that_is_down_gives_no_decision_and_recovers(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    decider = make()
    engine.down = True
    assert await decider.decide([question()]) == [None]
    for _ in range(5):
        clock.advance(1)
        assert await decider.decide([question()]) == [None]
    with pytest.raises(NoDecision):
        await decider.ask(question())
    engine.down = False
    clock.advance(1)
    assert (await decider.ask(question())).effect is Effect.RELEASE
    assert decider.counters.get("engine_faults", 0) == 0


async def test_a_slow_owner_holds_up_itself_only(make: Make, engine: ScriptedEngine) -> None:
    decider = make(wait_s=0.05)
    engine.hold = asyncio.Event()
    assert await decider.decide([question(owner="ems")]) == [None]
    held, engine.hold = engine.hold, None
    assert effects(await decider.decide([question(owner="transport", label="x")])) == ["release"]
    held.set()
    await settled(lambda: decider.counters["batches"] == 2)
    assert effects(await decider.decide([question(owner="ems")])) == ["release"]
    assert len(engine.batches) == 2, "the late answer was remembered"


async def test_a_slow_consumer_holds_up_itself_only(make: Make, engine: ScriptedEngine) -> None:
    decider = make(wait_s=0.05)
    person = {"roles": [], "attributes": {}, "purpose": "p"}
    engine.hold = asyncio.Event()
    assert await decider.decide([question(subject=person | {"agency": "slow"})]) == [None]
    held, engine.hold = engine.hold, None
    assert effects(await decider.decide([question(subject=person | {"agency": "quick"})])) == ["release"]
    held.set()


async def test_idle_lanes_are_dropped_and_made_again(make: Make) -> None:
    decider = make(lanes=2)
    for number in range(6):
        assert effects(await decider.decide([question(owner=f"agency-{number}", label=str(number))])) == [
            "release"
        ]
    assert len(decider._lanes) <= 2


async def test_what_ends_the_engine_is_asked_ever_more_rarely(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    engine.deadly = {"deadly"}
    decider = make(rest_s=0.5, rest_most_s=30.0)
    ended = 0
    for number in range(120):
        engine.down = False
        assert await decider.decide([question("deadly", owner="hostile")]) == [None]
        ended += engine.down
        engine.down = False
        assert effects(await decider.decide([question("open", label=str(number))])) == ["release"]
        clock.advance(1)
    assert 2 <= ended <= 10
    engine.deadly = set()
    engine.answer("deadly", [RELEASE])
    clock.advance(30)
    assert effects(await decider.decide([question("deadly", owner="hostile")])) == ["release"], (
        "never given up"
    )
    assert decider.counters.get("engine_faults", 0) == 0


async def test_after_a_long_outage_nobody_waits_longer(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    decider = make(rest_s=0.5)
    engine.down = True
    for _ in range(100):
        assert await decider.decide([question()]) == [None]
        clock.advance(1)
    engine.down = False
    assert effects(await decider.decide([question()])) == ["release"]


async def test_a_resting_lane_asks_nothing(make: Make, engine: ScriptedEngine, clock: TurnedClock) -> None:
    decider = make(rest_s=1.0)
    engine.down = True
    await decider.decide([question()])
    asked = len(engine.batches)
    engine.down = False
    assert await decider.decide([question()]) == [None]
    assert len(engine.batches) == asked
    clock.advance(1)
    assert effects(await decider.decide([question()])) == ["release"]


async def test_an_open_question_limit(make: Make, engine: ScriptedEngine) -> None:
    decider = make(lane_questions=2, wait_s=0.05)
    engine.hold = asyncio.Event()
    asked = asyncio.create_task(decider.decide([question(label=str(n)) for n in range(4)]))
    await settled(lambda: len(engine.batches) == 1)
    engine.hold.set()
    assert effects(await asked) == ["release", "release", None, None]


@pytest.mark.parametrize("topic", ["vanishing", "malformed"])
async def test_an_item_that_fails_again_on_a_healthy_engine_is_a_fault(
    make: Make, clock: TurnedClock, engine: ScriptedEngine, topic: str
) -> None:
    decider = make()
    asked = [question(topic), question("open")]
    assert effects(await decider.decide(asked)) == [None, "release"]
    assert effects(await decider.decide(asked)) == [None, "release"], "too soon to count as a second failure"
    clock.advance(1)
    decisions = await decider.decide(asked)
    assert effects(decisions) == ["withhold", "release"]
    assert decisions[0] is not None and decisions[0].reasons == (ENGINE_FAULT,)
    assert decider.counters["engine_faults"] == 1
    calls = len(engine.batches)
    assert effects(await decider.decide(asked)) == ["withhold", "release"]
    assert len(engine.batches) == calls, "the fault stands for a while"
    engine.answer(topic, [RELEASE])
    clock.advance(61)
    assert effects(await decider.decide(asked)) == ["release", "release"]


async def test_a_fault_needs_two_failures_in_a_row(
    make: Make, clock: TurnedClock, engine: ScriptedEngine
) -> None:
    decider = make(memo_entries=1)
    assert await decider.decide([question("vanishing")]) == [None]
    engine.answer("vanishing", [RELEASE])
    clock.advance(1)
    assert effects(await decider.decide([question("vanishing")])) == ["release"]
    assert effects(await decider.decide([question("open")])) == ["release"]
    engine.answer("vanishing", [])
    clock.advance(1)
    assert await decider.decide([question("vanishing")]) == [None]


async def test_items_that_break_their_batch_are_found(
    make: Make, clock: TurnedClock, engine: ScriptedEngine
) -> None:
    engine.broken = {"poison"}
    decider = make()
    asked = [question("poison" if n == 77 else "open", label=str(n)) for n in range(200)]
    first = effects(await decider.decide(asked))
    assert first == ["release"] * 77 + [None] + ["release"] * 122
    clock.advance(1)
    assert effects(await decider.decide(asked))[77] == "withhold"


async def test_finding_broken_items_is_bounded(make: Make, engine: ScriptedEngine) -> None:
    engine.broken = {"poison"}
    decider = make(isolate_calls=8)
    asked = [question("poison", label=str(n)) for n in range(200)]
    assert effects(await decider.decide(asked)) == [None] * 200
    assert len(engine.batches) < 30


async def test_new_label_sets_are_counted_for_each_owner(
    make: Make, clock: TurnedClock, engine: ScriptedEngine
) -> None:
    decider = make(label_sets_per_minute=60)
    flood = [question(label=str(n)) for n in range(100)]
    assert effects(await decider.decide(flood)) == ["release"] * 60 + [None] * 40
    assert effects(await decider.decide([question(label="q", owner="transport")])) == ["release"]
    other_class = question(
        label="0", subject={"agency": "ems", "roles": [], "attributes": {}, "purpose": "p"}
    )
    assert effects(await decider.decide([other_class])) == ["release"], "a new class is no new label set"
    clock.advance(10)
    assert effects(await decider.decide(flood)).count("release") == 70
    assert decider.counters["over_quota"] == 70


async def test_the_memo_is_bounded(make: Make, engine: ScriptedEngine) -> None:
    decider = make(memo_entries=10)
    await decider.decide([question(label=str(n)) for n in range(11)])
    await decider.decide([question(label=str(n)) for n in range(1, 11)])
    assert decider.counters["items_asked"] == 11
    await decider.decide([question(label="0")])
    assert decider.counters["items_asked"] == 12


async def test_the_memo_is_bounded_in_bytes(make: Make) -> None:
    decider = make(memo_bytes=3 * len(question().key) + 10)
    await decider.decide([question(label=str(n)) for n in range(4)])
    await decider.decide([question(label="0")])
    assert decider.counters["items_asked"] == 5


async def test_people_do_not_crowd_classes_out(make: Make) -> None:
    decider = make(personal_entries=2, memo_entries=2)
    await decider.decide([question()])
    person = {"agency": "ems", "roles": [], "attributes": {}, "purpose": "p"}
    for number in range(5):
        whole = {"action": "subscribe", "subject": person | {"id": str(number)}, "topic": "open"}
        assert (await decider.ask(make_question(whole, "ems"))).permitted
    await decider.decide([question()])
    assert decider.counters["items_asked"] == 6


async def test_time_is_a_tick_that_never_decreases(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    decider = make(time_dependent=True)
    clock.advance(0.9)
    await decider.decide([question()])
    await decider.decide([question()])
    clock.advance(0.2)
    await decider.decide([question()])
    clock.advance(-30)
    await decider.decide([question()])
    assert [batch[0]["time"] for batch in engine.batches] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]


async def test_with_time_a_decision_is_kept_until_valid_until(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    engine.answer("open", [output(effect="release", valid_until="2026-01-01T00:00:10Z")])
    decider = make(time_dependent=True)
    await decider.decide([question()])
    clock.advance(9.5)
    await decider.decide([question()])
    assert len(engine.batches) == 1
    clock.advance(0.5)
    expired = await decider.decide([question()])
    await decider.decide([question()])
    assert len(engine.batches) == 2, "asked again at its end, and then once a tick"
    assert expired[0] is not None and not expired[0].holds_at(expired[0].valid_until or pytest.fail("no end"))


async def test_without_time_nothing_is_sent_and_nothing_expires(
    make: Make, engine: ScriptedEngine, clock: TurnedClock
) -> None:
    engine.answer("open", [output(effect="release", valid_until="2026-01-01T00:00:10Z")])
    decider = make()
    await decider.decide([question()])
    clock.advance(3600)
    await decider.decide([question()])
    assert len(engine.batches) == 1 and "time" not in engine.batches[0][0]


async def test_closing_gives_open_questions_up(make: Make, engine: ScriptedEngine) -> None:
    engine.hold = asyncio.Event()
    decider = make()
    asked = asyncio.create_task(decider.decide([question()]))
    await settled(lambda: len(engine.batches) == 1)
    await decider.close()
    assert await asked == [None]


async def test_an_engine_that_raises_anything_else_is_no_decision(
    make: Make, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, clock: TurnedClock
) -> None:
    async def broken(_: object) -> Awaitable[None]:
        raise RuntimeError("unforeseen")

    decider = make()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "decide", broken)
        assert await decider.decide([question()]) == [None]
    assert effects(await decider.decide([question()])) == ["release"]


async def test_an_unforeseen_error_is_no_decision_and_its_words_are_not_logged(
    make: Make,
    engine: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: object) -> object:
        raise RuntimeError("SECRET")

    monkeypatch.setattr(engine, "decide", fail)
    assert effects(await make().decide([question()])) == [None]
    assert "RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("time_dependent", [False, True])
async def test_what_publishers_asked_lately_can_be_asked_of_the_next_decider(
    make: Make, engine: ScriptedEngine, clock: TurnedClock, time_dependent: bool
) -> None:
    """Whose question it is is what the agency of the person says; what is not about persons, or older, is left out."""
    decider = make(time_dependent=time_dependent)
    person = {"agency": "ems", "id": "medic", "roles": ["paramedic"], "attributes": {}}
    first, second = (
        question(label=label, owner="ems", action="publish", subject=person) for label in ("first", "second")
    )
    other = {"action": "subscribe", "subject": person | {"purpose": "work"}, "topic": "open"}
    await decider.decide([question(), make_question(other, "ems"), second, first])
    assert len(engine.batches) == 2
    clock.advance(5)
    await decider.decide([first])
    assert decider.asked_lately(["publish"], 10) == [first, second]
    assert decider.asked_lately(["publish", "subscribe"], 10) == [
        first,
        second,
        make_question(other, "ems"),
    ]
    assert decider.asked_lately(["audit"], 10) == []
    assert decider.asked_lately(["publish"], 1) == [first]
    assert decider.asked_lately(["publish"], 0) == []
    later = make(time_dependent=time_dependent)
    await later.decide(decider.asked_lately(["publish"], 10))
    assert later.recall(first) is not None
