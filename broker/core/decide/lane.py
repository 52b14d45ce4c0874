"""The questions of one owner about one agency's people: batched, one batch after another, apart from all others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.core.decide.faults import Faults
from broker.core.decide.limits import DeciderLimits
from broker.core.decide.question import Question, canary
from broker.errors import NoDecision, fault_place
from broker.model.decision import Decision
from broker.ports.clock import Clock
from broker.ports.policy_engine import PolicyEngine

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A question that is open. `key`: the question's, with `time` if it has one. `answer` never holds an exception."""

    key: bytes
    question: Question
    time: str | None
    answer: asyncio.Future[Decision | None]


class _Budget:
    """Engine calls that may still be spent on one failed batch."""

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def spend(self) -> bool:
        self._calls -= 1
        return self._calls >= 0


class Lane:
    """Asks for one pair of owner and subject's agency, with at most one engine call at a time.

    Those two agencies' modules take part in the answer. So one that is slow, or breaks its batch, holds up its agency's
    own records and its agency's own people, and nobody else. Equal questions that are open share one answer. After a
    failed call the lane rests, which leaves the engine to the others.
    """

    def __init__(
        self,
        name: str,
        engine: PolicyEngine,
        clock: Clock,
        limits: DeciderLimits,
        faults: Faults,
        counters: Counter[str],
        decided: Callable[[Wish, Decision], None],
    ) -> None:
        self._name = name
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._faults = faults
        self._counters = counters
        self._decided = decided
        self._open: dict[bytes, Wish] = {}
        self._queue: list[Wish] = []
        self._rests_until_s = float("-inf")
        self._suspicion = 0
        self._worker: asyncio.Task[None] | None = None

    def joined(self, key: bytes) -> asyncio.Future[Decision | None] | None:
        """The answer that an equal open question waits for."""
        wish = self._open.get(key)
        return None if wish is None else wish.answer

    @property
    def idle(self) -> bool:
        """Whether the lane may be dropped: nothing is open, and it does not rest."""
        return not self._open and self._clock.monotonic_s() >= self._rests_until_s

    @property
    def accepts(self) -> bool:
        """Whether a new question may be put now."""
        return (
            len(self._open) < self._limits.lane_questions and self._clock.monotonic_s() >= self._rests_until_s
        )

    def put(self, key: bytes, question: Question, time: str | None) -> asyncio.Future[Decision | None]:
        """Ask what is not open yet; the answer is None if there is no decision now."""
        wish = Wish(key, question, time, asyncio.get_running_loop().create_future())
        self._open[key] = wish
        self._queue.append(wish)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return wish.answer

    async def close(self) -> None:
        """Give up all open questions: they have no decision."""
        worker = self._worker
        if worker is not None:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        self._give_up(list(self._open.values()))

    async def _work(self) -> None:
        try:
            while self._queue:
                batch = self._queue[: self._limits.batch_items]
                del self._queue[: len(batch)]
                try:
                    if self._suspicion and not await self._engine_is_well(batch[0].time):
                        self._rest(self._limits.rest_s)
                        continue
                    await self._answer(batch, _Budget(self._limits.isolate_calls))
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is no decision, and the lane must go on
                    # Its place and not its words, which could quote an input.
                    _LOG.error("asking for %s failed: error=%s", self._name, fault_place(error))
                finally:
                    self._give_up(batch)
        finally:
            self._worker = None

    async def _answer(self, batch: Sequence[Wish], budget: _Budget) -> None:
        """Settle every wish of the batch: decided, struck, or without a decision now."""
        found = await self._ask(batch)
        if found is None:
            await self._isolate(batch, budget)
            return
        missing = [
            wish for number, wish in enumerate(batch) if not self._settle(wish, found.get(str(number)))
        ]
        for wish in missing:
            if len(batch) > 1 and budget.spend():
                alone = await self._ask([wish])
                if alone and self._settle(wish, alone.get("0")):
                    continue
            if budget.spend() and await self._engine_is_well(wish.time):
                self._strike(wish)

    async def _isolate(self, batch: Sequence[Wish], budget: _Budget) -> None:
        """The whole batch failed: if the engine is well, find out which items do it by halving."""
        self._rest(self._limits.rest_s)
        if not budget.spend():
            self._give_up(batch)
        elif not await self._engine_is_well(batch[0].time):
            self._suspect()
            self._give_up(batch)
        elif len(batch) == 1:
            self._strike(batch[0])
        else:
            middle = len(batch) // 2
            await self._answer(batch[:middle], budget)
            await self._answer(batch[middle:], budget)

    def _suspect(self) -> None:
        """The engine is down after this lane's batch: from now on the lane asks only an engine that answers a canary.

        If that one goes down too, the batch may be what ends it: it is tried again ever more rarely, but never given up.
        """
        self._rest(min(self._limits.rest_s * 2**self._suspicion, self._limits.rest_most_s))
        self._suspicion += 1

    def _rest(self, seconds: float) -> None:
        self._rests_until_s = self._clock.monotonic_s() + seconds

    async def _ask(self, batch: Sequence[Wish]) -> Mapping[str, Decision] | None:
        """Decisions by position in the batch; None if the batch as a whole has none."""
        items: list[dict[str, object]] = []
        for number, wish in enumerate(batch):
            timed = {} if wish.time is None else {"time": wish.time}
            items.append({**wish.question.item, "id": str(number), **timed})
        self._counters["batches"] += 1
        self._counters["items_asked"] += len(items)
        try:
            return await self._engine.decide(items)
        except NoDecision as error:
            self._counters["batches_failed"] += 1
            _LOG.warning("no decision for %d items of %s: %s", len(items), self._name, error)
            return None

    async def _engine_is_well(self, time: str | None) -> bool:
        self._counters["canaries"] += 1
        try:
            return "canary" in await self._engine.decide([canary(time)])
        except NoDecision:
            return False

    def _settle(self, wish: Wish, decision: Decision | None) -> bool:
        if decision is None:
            return False
        if wish.time is not None:
            decision = replace(decision, time=wish.time)
        self._suspicion = 0
        self._faults.clear(wish.question.key)
        self._decided(wish, decision)
        self._close_wish(wish, decision)
        return True

    def _strike(self, wish: Wish) -> None:
        fault = self._faults.strike(wish.question.key, self._clock.monotonic_s())
        if fault is not None:
            self._counters["engine_faults"] += 1
            _LOG.error(
                "the rulebook has no well-formed decision for an item of %s; it is withheld", self._name
            )
            fault = replace(fault, time=wish.time)
        self._close_wish(wish, fault)

    def _give_up(self, batch: Sequence[Wish]) -> None:
        for wish in batch:
            self._close_wish(wish, None)

    def _close_wish(self, wish: Wish, decision: Decision | None) -> None:
        if self._open.get(wish.key) is wish:
            del self._open[wish.key]
        if not wish.answer.done():
            wish.answer.set_result(decision)
