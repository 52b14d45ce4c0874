"""Replay: each recorded decision is made again, by the rules that made it, and compared exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from broker.core.audit import replay as module
from broker.core.audit.replay import EngineLost, EngineMissing, Replay
from broker.core.audit.replayed import Outcome, ReplayFinding
from broker.core.ledger.leaf import encode
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.rulebook import Rules
from tests.fakes.policy_engine import ScriptedEngine
from tests.fakes.rulebook import item, output

SALT = bytes(32)
RULES = Rules("sha256:one", "scripted 1")
WITHHELD = output()
RELEASED = output(
    effect="release",
    treatments={"pii": {"kind": "mask", "keep_first": 0, "keep_last": 2}},
    reasons=["agreed"],
)


class Engines:
    """Knows the engines that it was given, by revision."""

    def __init__(self, **engines: ScriptedEngine) -> None:
        self.engines = {f"sha256:{name}": engine for name, engine in engines.items()}
        self.asked: list[Rules] = []

    async def engine(self, rules: Rules) -> ScriptedEngine:
        self.asked.append(rules)
        if rules.revision not in self.engines:
            raise EngineMissing("the revision is not here")
        return self.engines[rules.revision]


def decision(topic: str, answer: Mapping[str, object] = RELEASED) -> dict[str, JsonValue]:
    """A recorded decision on the scripted answer of a topic."""
    asked: dict[str, JsonValue] = {name: value for name, value in item("", topic).items() if name != "id"}  # type: ignore[misc]
    return {"input": asked, "output": dict(answer)}  # type: ignore[dict-item]


def entry(index: int, kind: str, rules: Rules = RULES, **body: JsonValue) -> EncodedEntry:
    """An entry with these parts under these rules."""
    named: JsonValue = {"revision": rules.revision, "engine": rules.engine}
    return encode(LedgerEntry(kind, 1_000 + index, {**body, "rules": named}), "broker", 1, index, SALT)


def delivery(index: int, *decisions: JsonValue, withheld: Sequence[JsonValue] = ()) -> EncodedEntry:
    """A delivery with decisions of both sorts."""
    history: JsonValue = {
        "from": {},
        "to": {},
        "outcomes": {},
        "withheld": [[each, 3] for each in withheld],
    }
    return entry(index, "delivery", decisions=list(decisions), considered=[history])


async def entries(*told: EncodedEntry, size: int = 2) -> AsyncIterator[tuple[str, Sequence[EncodedEntry]]]:
    for at in range(0, len(told), size):
        yield "broker", told[at : at + size]


async def replayed(run: Replay, *told: EncodedEntry) -> list[ReplayFinding]:
    return [finding async for finding in run.run(entries(*told))]


async def test_every_kind_of_entry_is_replayed_and_equal_questions_are_asked_once() -> None:
    engine = ScriptedEngine({"a": [RELEASED], "b": [WITHHELD]})
    run = Replay(Engines(one=engine))
    told = [
        entry(0, "configuration"),
        entry(1, "publish", decisions=[decision("a")]),
        entry(2, "stream_opened", decisions=[decision("a")]),
        entry(3, "call_refused", decisions=[decision("b", WITHHELD)]),
        delivery(4, decision("a"), withheld=[decision("b", WITHHELD)]),
        entry(5, "stream_closed", considered=[{"withheld": [[decision("b", WITHHELD), 1]]}]),
        entry(6, "stream_closed", considered={"withheld": [[decision("b", WITHHELD), 1]]}),
        entry(7, "stream_closed", considered=[], end={"decisions": [decision("b", WITHHELD)]}),
    ]
    assert await replayed(run, *told) == []
    tally = run.tally
    assert (tally.entries, tally.decisions, tally.agree, tally.evaluated) == (8, 8, 8, 2)
    assert tally.complete and not tally.faulty
    assert tally.by_rules == {RULES: 8}
    assert [len(batch) for batch in engine.batches] == [2]


def under(told: dict[str, JsonValue], rules: Rules) -> dict[str, JsonValue]:
    """A decision that was made before a switch."""
    return {**told, "under": {"revision": rules.revision, "engine": rules.engine}}


async def test_a_decision_that_ended_a_stream_and_is_made_otherwise_is_told_with_its_place() -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]})))
    told = entry(3, "stream_closed", considered=[], end={"decisions": [decision("a", WITHHELD)]})
    (found,) = await replayed(run, told)
    assert (found.outcome, found.index, found.part, found.number) == (Outcome.DIFFERS, 3, "end", 0)


EARLIER = Rules("sha256:earlier", RULES.engine)


async def test_what_was_decided_before_a_switch_is_replayed_by_the_rules_that_it_names() -> None:
    engines = Engines(one=ScriptedEngine({"a": [RELEASED]}), earlier=ScriptedEngine({"a": [WITHHELD]}))
    run = Replay(engines)
    earlier = under(decision("a", WITHHELD), EARLIER)
    told = [
        delivery(0, decision("a"), withheld=[earlier]),
        entry(1, "call_refused", decisions=[earlier]),
        entry(2, "stream_closed", considered=[{"withheld": [[earlier, 1]]}]),
    ]
    assert await replayed(run, *told) == []
    assert run.tally.by_rules == {RULES: 1, EARLIER: 3}
    assert run.tally.complete and not run.tally.faulty


@pytest.mark.parametrize("kind", ["delivery", "publish", "stream_opened"])
async def test_nothing_is_released_by_other_rules_than_those_in_force(kind: str) -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]}), earlier=ScriptedEngine({"a": [RELEASED]})))
    (found,) = await replayed(run, entry(0, kind, decisions=[under(decision("a"), EARLIER)]))
    assert (found.outcome, found.index) == (Outcome.UNREADABLE, 0)
    assert run.tally.faulty


@pytest.mark.parametrize("named", ["x", {}, {"revision": "sha256:one"}, {"revision": 1, "engine": "e"}, None])
async def test_rules_that_are_none_are_found(named: JsonValue) -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [WITHHELD]})))
    told: dict[str, JsonValue] = {**decision("a", WITHHELD), "under": named}
    (found,) = await replayed(run, delivery(0, withheld=[told]))
    assert found.outcome is Outcome.UNREADABLE


async def test_a_decision_that_comes_out_otherwise_is_found_with_its_place() -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED], "b": [WITHHELD]})))
    lie = decision("b", {**RELEASED, "reasons": ["friendship"]})
    told = [delivery(0, decision("a")), delivery(1, decision("a"), lie, withheld=[decision("b", WITHHELD)])]
    (found,) = await replayed(run, *told)
    assert (found.outcome, found.instance, found.index, found.kind) == (
        Outcome.DIFFERS,
        "broker",
        1,
        "delivery",
    )
    assert (found.part, found.number, found.rules) == ("decisions", 1, RULES)
    assert (found.input, found.recorded, found.replayed) == (lie["input"], lie["output"], WITHHELD)
    assert (run.tally.agree, run.tally.differ, run.tally.faulty) == (3, 1, True)


@pytest.mark.parametrize(
    "change",
    [
        {"treatments": {"pii": {"kind": "mask", "keep_first": 0, "keep_last": 3}}},
        {
            "treatments": {
                "pii": {"kind": "mask", "keep_first": 0, "keep_last": 2},
                "medical": {"kind": "keep"},
            }
        },
        {"obligations": ["none"]},
        {"reasons": []},
        {"valid_until": "2026-01-01T00:00:00+00:00"},
    ],
)
async def test_the_comparison_is_exact(change: Mapping[str, object]) -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]})))
    (found,) = await replayed(run, delivery(0, decision("a", {**RELEASED, **change})))
    assert (found.outcome, found.replayed) == (Outcome.DIFFERS, RELEASED)


async def test_a_withheld_decision_that_comes_out_otherwise_is_found_too() -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]})))
    told = delivery(7, withheld=[decision("a"), decision("a", WITHHELD)])
    (found,) = await replayed(run, told)
    assert (found.index, found.part, found.number, found.replayed) == (7, "considered", 1, RELEASED)


async def test_what_the_rules_do_not_answer_differs() -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]})))
    (found,) = await replayed(run, delivery(0, decision("unheard-of")))
    assert (found.outcome, found.replayed) == (Outcome.DIFFERS, None)


async def test_a_missing_revision_is_counted_and_named_once_by_rules() -> None:
    run = Replay(Engines(one=ScriptedEngine({"a": [RELEASED]})))
    gone = Rules("sha256:gone", "scripted 1")
    told = [delivery(0, decision("a"))]
    told += [entry(n, "publish", gone, decisions=[decision("a"), decision("b")]) for n in (1, 2, 3)]
    assert await replayed(run, *told) == []
    missing = run.tally.missing[gone]
    assert (missing.problem, missing.index, missing.decisions) == ("the revision is not here", 1, 6)
    assert (run.tally.agree, run.tally.complete, run.tally.faulty) == (1, False, False)


async def test_the_same_question_under_other_rules_is_asked_again() -> None:
    first, second = ScriptedEngine({"a": [RELEASED]}), ScriptedEngine({"a": [WITHHELD]})
    run = Replay(Engines(one=first, two=second))
    two = Rules("sha256:two", "scripted 1")
    told = [delivery(0, decision("a")), entry(1, "publish", two, decisions=[decision("a", WITHHELD)])]
    assert await replayed(run, *told) == []
    assert (run.tally.agree, run.tally.evaluated) == (2, 2)


async def test_erased_entries_are_counted() -> None:
    run = Replay(Engines())
    erased = EncodedEntry(delivery(0, decision("a")).leaf, b"")
    assert await replayed(run, erased) == []
    assert (run.tally.erased, run.tally.decisions, run.tally.complete) == (1, 0, False)


async def test_an_entry_that_is_not_what_its_leaf_commits_to_is_found_and_not_replayed() -> None:
    engine = ScriptedEngine({"a": [RELEASED]})
    run = Replay(Engines(one=engine))
    told = delivery(3, decision("a"))
    forged = EncodedEntry(told.leaf, told.openings.replace(b'"agreed"', b'"abused"'))
    (found,) = await replayed(run, forged)
    assert (found.outcome, found.index, found.kind) == (Outcome.UNREADABLE, 3, "delivery")
    assert (run.tally.unreadable, run.tally.faulty, engine.batches) == (1, True, [])


@pytest.mark.parametrize(
    "body",
    [
        {"decisions": [{"input": {}}]},
        {"decisions": [7]},
        {"decisions": {"input": {}, "output": {}}},
        {"considered": [[]]},
        {"considered": [{"withheld": [7]}]},
        {"considered": [{"withheld": {}}]},
    ],
)
async def test_parts_of_another_form_are_unreadable(body: Mapping[str, JsonValue]) -> None:
    (found,) = await replayed(Replay(Engines()), entry(0, "delivery", **body))
    assert found.outcome is Outcome.UNREADABLE


async def test_an_entry_without_rules_is_unreadable() -> None:
    encoded = encode(LedgerEntry("publish", 0, {"decisions": [decision("a")]}), "broker", 1, 0, SALT)
    (found,) = await replayed(Replay(Engines()), encoded)
    assert found.problem == "the entry does not name its rules"


async def test_a_leaf_that_cannot_be_read_has_no_index() -> None:
    (found,) = await replayed(Replay(Engines()), EncodedEntry(b"{}", b""))
    assert (found.outcome, found.index) == (Outcome.UNREADABLE, -1)


async def test_engine_faults_are_told_apart() -> None:
    """The broker records one where its engine gave no decision; the rulebook had no part in it."""
    fault = output(reasons=["engine_fault"])
    engine = ScriptedEngine({"healed": [RELEASED]})
    run = Replay(Engines(one=engine))
    (found,) = await replayed(
        run, delivery(0, withheld=[decision("broken", fault), decision("healed", fault)])
    )
    assert (found.outcome, found.number, found.replayed) == (Outcome.FAULT_ANSWERED, 1, RELEASED)
    assert (run.tally.faults, run.tally.faults_answered, run.tally.differ) == (2, 1, 0)


async def test_an_item_that_breaks_its_batch_harms_no_other() -> None:
    topics = [f"t{n}" for n in range(9)]
    engine = ScriptedEngine({topic: [RELEASED] for topic in topics})
    engine.broken = {"t4"}
    run = Replay(Engines(one=engine))
    (found,) = await replayed(run, delivery(0, *(decision(topic) for topic in topics)))
    assert (found.number, found.replayed, run.tally.agree) == (4, None, 8)


async def test_an_engine_that_is_gone_ends_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CANARY_PAUSE_S", 0)
    engine = ScriptedEngine({"a": [RELEASED]})
    engine.down = True
    with pytest.raises(EngineLost, match="stopped answering"):
        await replayed(Replay(Engines(one=engine)), delivery(0, decision("a")))


async def test_many_questions_go_in_bounded_batches_and_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BATCH_ITEMS", 4)
    monkeypatch.setattr(module, "_WINDOW_QUESTIONS", 10)
    monkeypatch.setattr(module, "_QUESTIONS_KEPT", 5)
    topics = [f"t{n}" for n in range(50)]
    engine = ScriptedEngine({topic: [RELEASED] for topic in topics})
    run = Replay(Engines(one=engine))
    told = [delivery(n, decision(topic)) for n, topic in enumerate([*topics, *topics])]
    told[70] = delivery(70, decision("t20", WITHHELD))
    (found,) = await replayed(run, *told)
    assert (found.index, run.tally.agree) == (70, 99)
    assert max(len(batch) for batch in engine.batches) <= 4
    assert run.tally.evaluated > 50  # some were forgotten and asked again


async def test_the_next_window_is_read_while_the_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW_QUESTIONS", 1)
    engine = ScriptedEngine({"a": [RELEASED], "b": [RELEASED]})
    engine.hold = asyncio.Event()
    hold = engine.hold

    async def told() -> AsyncIterator[tuple[str, Sequence[EncodedEntry]]]:
        yield "broker", [delivery(0, decision("a"))]
        hold.set()  # without this nothing is answered: reading must get here first
        yield "broker", [delivery(1, decision("b"))]

    run = Replay(Engines(one=engine))
    assert [finding async for finding in run.run(told())] == []
    assert run.tally.agree == 2


async def test_leaving_early_ends_what_is_under_way() -> None:
    engine = ScriptedEngine({"a": [WITHHELD]})
    run = Replay(Engines(one=engine))
    findings = run.run(entries(*(delivery(n, decision("a")) for n in range(4))))
    async for _ in findings:
        break
    await findings.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {asyncio.current_task()}
