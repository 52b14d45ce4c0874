"""The decider: from questions to decisions of one revision."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import orjson

from broker.core.decide.faults import Faults
from broker.core.decide.lane import Lane, Wish
from broker.core.decide.limits import DeciderLimits
from broker.core.decide.memo import Memo
from broker.core.decide.question import Question, make_question
from broker.core.decide.quota import LabelSetQuota
from broker.errors import NoDecision
from broker.model.decision import Decision
from broker.model.rulebook import Rules
from broker.ports.clock import Clock
from broker.ports.policy_engine import PolicyEngine

_PERSONAL_KEY_BYTES = 16 * 1024 * 1024


class Decider:
    """Decides for one revision; a new revision gets a new decider, so nothing older can be recalled.

    A decision is a function of revision and input (design rule 4), so what was decided is remembered by the whole input.
    Without `time` in the input that holds for good, past `valid_until` too: asking again could give nothing else, and
    the caller withholds what no longer holds (`Decision.holds_at`). With `time` a decision is kept for its tick, or
    until its `valid_until`. Questions about one person are remembered too, in a memo of their own.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        clock: Clock,
        *,
        time_dependent: bool,
        limits: DeciderLimits | None = None,
        quota: LabelSetQuota | None = None,
    ) -> None:
        """quota: that of earlier revisions, to which label sets are not new because the revision is."""
        self._engine = engine
        self._clock = clock
        self._time_dependent = time_dependent
        self._limits = limits or DeciderLimits()
        self._classes = Memo(self._limits.memo_entries, self._limits.memo_bytes)
        self._persons = Memo(self._limits.personal_entries, _PERSONAL_KEY_BYTES)
        self._quota = quota or LabelSetQuota(
            self._limits.label_sets_per_minute, self._limits.label_sets_known
        )
        self._faults = Faults(self._limits)
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._tick_ms = 0
        self._counters: Counter[str] = Counter()

    @property
    def revision(self) -> str:
        """The revision that every decision is of."""
        return self._engine.revision

    @property
    def engine_version(self) -> str:
        """The engine's name and version, for the ledger."""
        return self._engine.version

    @property
    def rules(self) -> Rules:
        """Both, as the ledger names what a decision was made by."""
        return Rules(self.revision, self.engine_version)

    @property
    def counters(self) -> Mapping[str, int]:
        """Since the start: recalled, missed, over_quota, without_decision, batches, items_asked, batches_failed, …"""
        return dict(self._counters)

    async def decide(self, questions: Sequence[Question]) -> list[Decision | None]:
        """A decision for each question, in order; None: no decision now, so stall and ask again (design rule 1).

        Waits `wait_s` at most. What the engine answers later is remembered for the next time.
        """
        time = self._time()
        now_ms = self._clock.now_ms() if time else 0
        decisions = [self._recall(question, time, now_ms) for question in questions]
        waiting: dict[int, asyncio.Future[Decision | None]] = {}
        for number, decision in enumerate(decisions):
            if decision is None:
                decisions[number] = self._put(questions[number], time, number, waiting)
        if waiting:
            await asyncio.wait(set(waiting.values()), timeout=self._limits.wait_s)
            for number, answer in waiting.items():
                decisions[number] = answer.result() if answer.done() else None
            self._counters["without_decision"] += sum(decision is None for decision in decisions)
        return decisions

    def recall(self, question: Question) -> Decision | None:
        """What was decided before and still counts; nobody is asked."""
        return self._recall(question, self._time(), self._clock.now_ms())

    def asked_lately(self, actions: Collection[str], most: int) -> list[Question]:
        """What was asked about persons for these actions, the last first, for a decider that is to take this one's place.

        most: of questions about persons, whatever for, that are looked at.
        """
        # Behind the item of a question that depends on time stands that time (see `_timed`), which is over.
        keys = (key[: key.rindex(b"}") + 1] for key in islice(self._persons.newest(), most))
        items = [orjson.loads(key) for key in dict.fromkeys(keys)]
        return [make_question(item, item["subject"]["agency"]) for item in items if item["action"] in actions]

    async def ask(self, question: Question) -> Decision:
        """The decision for one question. Raises NoDecision if there is none now."""
        decision = (await self.decide([question]))[0]
        if decision is None:
            raise NoDecision("the policy engine gave no decision in time")
        return decision

    async def close(self) -> None:
        """Give up all open questions; the engine stays with whoever started it."""
        lanes, self._lanes = self._lanes, {}  # they refer to this, which is to be freed by its last reference
        for lane in lanes.values():
            await lane.close()

    def _recall(self, question: Question, time: str | None, now_ms: int) -> Decision | None:
        memo = self._persons if question.personal else self._classes
        key = question.key
        decision = memo.recall(key)
        if time is not None:
            if decision is not None and not decision.holds_at(_moment(now_ms)):
                memo.forget(key)
                decision = None
            if decision is None:
                key = _timed(key, time)
                decision = memo.recall(key)
        if decision is None:
            return None
        memo.touch(key)
        self._counters["recalled"] += 1
        return decision

    def _put(
        self,
        question: Question,
        time: str | None,
        number: int,
        waiting: dict[int, asyncio.Future[Decision | None]],
    ) -> Decision | None:
        """Open the question, or join an equal one, and note its future; or a fault that stands for it."""
        key = question.key if time is None else _timed(question.key, time)
        now_s = self._clock.monotonic_s()
        fault = self._faults.held(question.key, now_s)
        if fault is not None:
            return fault if time is None else replace(fault, time=time)
        self._counters["missed"] += 1
        lane = self._lane(question)
        answer = lane.joined(key)
        if answer is None and self._admitted(lane, question, now_s):
            answer = lane.put(key, question, time)
        if answer is not None:
            waiting[number] = answer
        return None

    def _admitted(self, lane: Lane, question: Question, now_s: float) -> bool:
        if not lane.accepts:
            self._counters["lane_closed"] += 1
            return False
        if question.label_set is not None and not self._quota.admit(
            question.owner, question.label_set, now_s
        ):
            self._counters["over_quota"] += 1
            return False
        return True

    def _lane(self, question: Question) -> Lane:
        pair = (question.owner, question.subject_agency)
        lane = self._lanes.get(pair)
        if lane is None:
            if len(self._lanes) >= self._limits.lanes:
                self._lanes = {key: kept for key, kept in self._lanes.items() if not kept.idle}
            name = f"{question.owner} for {question.subject_agency}"
            lane = Lane(
                name, self._engine, self._clock, self._limits, self._faults, self._counters, self._remember
            )
            self._lanes[pair] = lane
        return lane

    def _remember(self, wish: Wish, decision: Decision) -> None:
        memo = self._persons if wish.question.personal else self._classes
        time, until = wish.time, decision.valid_until
        lasting = time is not None and until is not None and decision.holds_at(datetime.fromisoformat(time))
        memo.remember(wish.question.key if lasting else wish.key, decision)

    def _time(self) -> str | None:
        """The start of the present tick, never decreasing, where the revision may depend on it."""
        if not self._time_dependent:
            return None
        now_ms = self._clock.now_ms()
        self._tick_ms = max(self._tick_ms, now_ms - now_ms % self._limits.tick_ms)
        return _moment(self._tick_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _timed(key: bytes, time: str) -> bytes:
    return key + time.encode()
