"""A rulebook on trial whose decisions are a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from broker.errors import NoDecision
from broker.model.decision import Decision
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item
from broker.ports.rulebook_trial import Cost, Evaluation, RegoTest, RulebookTrial

Decide = Callable[[Item], Decision | None]


class FunctionTrial:
    """Implements RulebookTrial. times: what deciding takes, one after the other, the last for good; None: no answer."""

    def __init__(
        self,
        decide: Decide,
        times: Sequence[int | None] = (1,),
        costs: Sequence[Cost] = (),
        silent: bool = False,
    ) -> None:
        self._decide = decide
        self._times = list(times)
        self._costs = costs
        self._silent = silent
        self.asked: list[Item] = []
        self.profiled: list[Item] = []
        self.closed = False

    async def evaluate(self, item: Item) -> Evaluation:
        self.asked.append(item)
        duration_ns = self._times.pop(0) if len(self._times) > 1 else self._times[0]
        if duration_ns is None:
            raise NoDecision("slow")
        return Evaluation(self._decide(item), duration_ns)

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        self.asked += items
        if self._silent:
            raise NoDecision("slow")
        answers = {str(item["id"]): self._decide(item) for item in items}
        return {key: decision for key, decision in answers.items() if decision is not None}

    async def profile(self, item: Item) -> Sequence[Cost]:
        self.profiled.append(item)
        return self._costs

    async def run_tests(self) -> Sequence[RegoTest]:
        return ()

    async def close(self) -> None:
        self.closed = True


class NeverStarted:
    """Engines that must not be started."""

    async def start(self, revision: Revision) -> RulebookTrial:
        raise AssertionError("rules that do not pass the checks must not be run")
