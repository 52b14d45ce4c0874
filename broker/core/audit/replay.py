"""Replay: each recorded decision is made again by the rules that made it, and compared.

A decision is a function of revision and input (design rule 4), so each distinct (revision, engine, input) is asked once,
and every record of it is compared with that answer, byte for byte in canonical JSON. While the engine answers one window
of entries, the next is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import orjson

from broker.core.audit.recorded import RecordedDecision, decisions_of, rules_of
from broker.core.audit.replayed import Missing, Outcome, ReplayFinding, ReplayTally
from broker.core.decide import ENGINE_FAULT
from broker.core.decide.output import output_of
from broker.core.decide.question import canary
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import EntryInvalid, check, read_leaf, read_openings
from broker.errors import NoDecision
from broker.model.decision import Decision, Effect
from broker.model.ledger import EncodedEntry
from broker.model.rulebook import Rules
from broker.ports.policy_engine import PolicyEngine

Entries = AsyncIterator[tuple[str, Sequence[EncodedEntry]]]
"""Consecutive entries in parts, each with the instance that wrote it."""

_RELEASING = frozenset({"delivery", "publish", "stream_opened"})
"""Kinds whose part `decisions` is decided by the rules of the entry; what was withheld before may have been by others."""

_BATCH_ITEMS = 500
_AT_ONCE = 2
"""Batches under way: two give 1.8 times as many answers as one, three no more than two (measured on two cores)."""

_WINDOW_DECISIONS = 20_000
_WINDOW_QUESTIONS = 4 * _BATCH_ITEMS
_QUESTIONS_KEPT = 500_000
_CANARY_TRIES = 20
_CANARY_PAUSE_S = 0.5

_FAULT = canonical(output_of(Decision(Effect.WITHHOLD, reasons=(ENGINE_FAULT,))))


class EngineMissing(Exception):
    """These decisions cannot be made again here; one line: what is missing and what to do."""


class EngineLost(Exception):
    """The engine stopped answering even what any rulebook answers; one line."""


class ReplayEngines(Protocol):
    """Where engines come from."""

    async def engine(self, rules: Rules) -> PolicyEngine:
        """A running engine of exactly this revision and version, which stays with this object.

        Raises EngineMissing.
        """


@dataclass(frozen=True, slots=True)
class _NotAsked:
    problem: str


@dataclass(slots=True)
class _Question:
    """A distinct question; `answer` is canonical JSON, or None if the rules give no well-formed decision."""

    rules: Rules
    input: bytes
    answer: bytes | _NotAsked | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """A recorded decision that waits for its answer."""

    instance: str
    index: int
    kind: str
    question: _Question
    decision: RecordedDecision


@dataclass(slots=True)
class _Window:
    """What is settled together, in the order of the entries, and which of its questions are new."""

    told: list[_Told | ReplayFinding] = field(default_factory=list)
    new: list[_Question] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.told) >= _WINDOW_DECISIONS or len(self.new) >= _WINDOW_QUESTIONS


class Replay:
    """One run over entries; `tally` counts while it goes on."""

    def __init__(self, engines: ReplayEngines) -> None:
        self._engines = engines
        self._questions: dict[bytes, _Question] = {}
        self.tally = ReplayTally()

    async def run(self, entries: Entries) -> AsyncIterator[ReplayFinding]:
        """What does not agree, in order. Raises EngineLost, and what reading raises."""
        began_s = time.monotonic()
        asking: asyncio.Task[_Window] | None = None
        try:
            async for window in self._windows(entries):
                settled = await asking if asking is not None else None
                asking = asyncio.create_task(self._ask(window))
                for finding in self._findings(settled):
                    yield finding
                self.tally.seconds = time.monotonic() - began_s
            for finding in self._findings(await asking if asking is not None else None):
                yield finding
            self.tally.seconds = time.monotonic() - began_s
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async def _windows(self, entries: Entries) -> AsyncIterator[_Window]:
        window = _Window()
        async for instance, part in entries:
            for entry in part:
                self._read(window, instance, entry)
                if window.full:
                    yield window
                    window = _Window()
            await asyncio.sleep(0)  # reading may never wait by itself, and answers have to be taken in
        yield window

    def _read(self, window: _Window, instance: str, entry: EncodedEntry) -> None:
        """Add an entry's decisions to the window, after checking that they are what the leaf commits to."""
        self.tally.entries += 1
        index, kind = -1, ""
        try:
            leaf = read_leaf(entry.leaf)
            index, kind = leaf.index, leaf.kind
            if not entry.openings:
                self.tally.erased += 1
                return
            openings = read_openings(entry.openings)
            check(leaf, openings)
            rules, decisions = rules_of(openings), decisions_of(openings)
            if kind in _RELEASING and any(each.under for each in decisions if each.part == "decisions"):
                raise EntryInvalid("something was released by other rules than those in force")
        except EntryInvalid as error:
            self.tally.unreadable += 1
            window.told.append(ReplayFinding(Outcome.UNREADABLE, instance, index, kind, str(error)))
            return
        for decision in decisions:
            made_by = decision.under or rules
            question = self._question(window, made_by, decision.input)
            window.told.append(_Told(instance, index, kind, question, decision))
            self.tally.by_rules[made_by] += 1
        self.tally.decisions += len(decisions)

    def _question(self, window: _Window, rules: Rules, asked: bytes) -> _Question:
        state = blake2b(asked, digest_size=24)
        state.update(b"\0%b\0%b" % (rules.revision.encode(), rules.engine.encode()))
        key = state.digest()
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question(rules, asked)
            window.new.append(question)
        return question

    async def _ask(self, window: _Window) -> _Window:
        """Have the window's new questions answered."""
        by_rules: dict[Rules, list[_Question]] = {}
        for question in window.new:
            by_rules.setdefault(question.rules, []).append(question)
        for rules, questions in by_rules.items():
            try:
                engine = await self._engines.engine(rules)
            except EngineMissing as missing:
                not_asked = _NotAsked(str(missing))
                for question in questions:
                    question.answer = not_asked
                continue
            cut = range(0, len(questions), _BATCH_ITEMS)
            batches = iter([questions[at : at + _BATCH_ITEMS] for at in cut])
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(_AT_ONCE):
                        group.create_task(self._work(engine, batches))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        return window

    async def _work(self, engine: PolicyEngine, batches: Iterator[list[_Question]]) -> None:
        for batch in batches:
            await _answer(engine, batch)
            self.tally.evaluated += len(batch)

    def _findings(self, window: _Window | None) -> Iterator[ReplayFinding]:
        """Compare what was recorded with what came out; then forget the oldest questions beyond the bound."""
        for told in () if window is None else window.told:
            found = told if isinstance(told, ReplayFinding) else self._compare(told)
            if found is not None:
                yield found
        for question in () if window is None else window.new:
            question.input = b""  # answered: only the answer is needed from here on
        for key in list(self._questions)[: max(0, len(self._questions) - _QUESTIONS_KEPT)]:
            del self._questions[key]

    def _compare(self, told: _Told) -> ReplayFinding | None:
        answer, recorded = told.question.answer, told.decision.output
        if isinstance(answer, _NotAsked):
            missing = Missing(answer.problem, told.instance, told.index)
            self.tally.missing.setdefault(told.question.rules, missing).decisions += 1
            return None
        if recorded == _FAULT and answer != recorded:
            self.tally.faults += 1
            if answer is None:
                return None
            self.tally.faults_answered += 1
            problem = "recorded as a fault of the engine, which answers now"
            return _finding(Outcome.FAULT_ANSWERED, problem, told, answer)
        if answer == recorded:
            self.tally.agree += 1
            return None
        self.tally.differ += 1
        problem = "the rules give no well-formed decision" if answer is None else "the rules decide otherwise"
        return _finding(Outcome.DIFFERS, problem, told, answer)


def _finding(outcome: Outcome, problem: str, told: _Told, answer: bytes | None) -> ReplayFinding:
    return ReplayFinding(
        outcome,
        told.instance,
        told.index,
        told.kind,
        problem,
        told.decision.part,
        told.decision.number,
        told.question.rules,
        orjson.loads(told.decision.input),
        orjson.loads(told.decision.output),
        None if answer is None else orjson.loads(answer),
    )


async def _answer(engine: PolicyEngine, batch: Sequence[_Question], *, again: bool = False) -> None:
    """Ask a batch; one that fails on a healthy engine is halved until those that make it fail, twice, are alone."""
    items = [{**orjson.loads(question.input), "id": str(n)} for n, question in enumerate(batch)]
    try:
        decisions = await engine.decide(items)
    except NoDecision:
        await _wait_until_well(engine, items[0].get("time"))
        middle = len(batch) // 2
        if middle:
            await _answer(engine, batch[:middle])
            await _answer(engine, batch[middle:])
        elif not again:
            await _answer(engine, batch, again=True)
        return
    for number, question in enumerate(batch):
        decision = decisions.get(str(number))
        question.answer = None if decision is None else canonical(output_of(decision))


async def _wait_until_well(engine: PolicyEngine, at: str | None) -> None:
    """An OPA that was lost is started again. Raises EngineLost if none answers what every rulebook answers."""
    for _ in range(_CANARY_TRIES):
        try:
            if await engine.decide([canary(at)]):
                return
        except NoDecision:
            pass  # it may come back
        await asyncio.sleep(_CANARY_PAUSE_S)
    raise EngineLost(f"{engine.version} stopped answering under {engine.revision}; start the replay again")
