"""Puts another revision, or other overlays, in force in this instance while it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker.app.engines import START_FAULTS
from broker.app.regime import OpenRegime, RegimeBuilder
from broker.app.rulebook import PreparedRulebook
from broker.core.control.applier import PreparationFailed, Prepared
from broker.core.decide.question import canary
from broker.core.deliver.fanout import FanOut, Warm
from broker.core.in_force import InForce, Order
from broker.core.regime import Regime
from broker.errors import NoDecision, RulebookRefused, fault_place
from broker.model.overlay import Overlays

log = logging.getLogger(__name__)

CLOSE_AFTER_S = 2.0
"""How long the engine of what was in force before still answers: longer than anybody waits who asked it just before."""

WARM_S = 5.0
"""The longest that a preparation waits for what the open streams will ask; what is left is asked when it is needed."""

TRY_S = 15.0
"""How long an engine may take to its first decision: one that hangs is noticed and ended after ten seconds."""

TRY_AGAIN_S = 0.1

LATE_QUESTIONS = 200
"""So many questions about persons are looked at for what publishers will ask again, whether they may use a topic too."""


@dataclass(slots=True, eq=False)
class PreparedRegime:
    """A regime that waits to be put in force. warm: what it has decided for the open streams. taken: it was put in force."""

    open_regime: OpenRegime
    warm: Warm = field(default_factory=dict)
    taken: bool = False

    @property
    def revision(self) -> str:
        """See Prepared."""
        return self.open_regime.regime.rules.revision

    @property
    def engine(self) -> str:
        """See Prepared."""
        return self.open_regime.regime.rules.engine

    async def discard(self) -> None:
        """See Prepared."""
        if not self.taken:
            await self.open_regime.close()


class Switching:
    """Implements Applier: owns the regime in force and, for a moment, the one before it."""

    def __init__(self, builder: RegimeBuilder, in_force: InForce[Regime], present: OpenRegime) -> None:
        self.in_force = in_force
        self.engines = builder.engines
        self._builder = builder
        self._present = present
        self._fanout: FanOut | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: set[OpenRegime] = set()

    def attach(self, fanout: FanOut) -> None:
        """The streams that a switch is about; before the first one."""
        self._fanout = fanout

    async def prepare(self, revision_id: str) -> PreparedRegime:
        """See Applier: checked as at the door, its engine running and tried, and warm for the open streams."""
        try:
            opened = await self._builder.build(await self.engines.lend(revision_id), self._present)
        except RulebookRefused as error:
            raise PreparationFailed(error.findings[0] if error.findings else "it is refused") from None
        except START_FAULTS as error:
            raise PreparationFailed(str(error)) from None
        prepared = PreparedRegime(opened)
        # Beside each other: while instances wait for one another each answer of an engine that is waited for counts.
        warming = asyncio.get_running_loop().create_task(self._warm(prepared))
        try:
            at_once = await self._try(opened.regime)
            await warming
            if not at_once:  # what was asked meanwhile had no decision
                await self._warm(prepared)
        except BaseException:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            await opened.close()
            raise
        return prepared

    def switch(self, prepared: Prepared) -> asyncio.Future[None]:
        """See Applier."""
        if not isinstance(prepared, PreparedRegime) or prepared.taken:
            raise ValueError("this was not prepared here, or is in force already")
        prepared.taken = True
        before, self._present = self._present, prepared.open_regime
        overlays = self.in_force.present.overlays
        over = self.in_force.replace(Order(prepared.open_regime.regime, overlays))
        judged = self._fanout.switched(prepared.warm) if self._fanout is not None else None
        log.info("in force: revision=%s engine=%s", prepared.revision, prepared.engine)
        self._over.add(before)
        return self._begin(self._conclude(over, judged, before))

    def restrict(self, overlays: Overlays) -> asyncio.Future[None]:
        """See Applier."""
        over = self.in_force.replace(Order(self._present.regime, overlays))
        if self._fanout is not None:
            self._fanout.restricted()
        return over

    async def close(self) -> None:
        """Stop what is in force, and what was; nothing is served any more. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for over in (self._present, *self._over):
            await over.close()
        self._over.clear()

    async def _conclude(
        self, over: asyncio.Future[None], judged: asyncio.Future[None] | None, before: OpenRegime
    ) -> None:
        """Until nothing can be released under what was before, and every stream was looked at once."""
        await over
        if judged is not None:
            await judged
        self._begin(self._close_later(before))

    async def _close_later(self, before: OpenRegime) -> None:
        await asyncio.sleep(CLOSE_AFTER_S)
        await before.close()
        self._over.discard(before)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a switch did not end well: error=%s", fault_place(error))

    async def _try(self, regime: Regime) -> bool:
        """A revision that cannot answer what every one answers would stall everything. Whether it did so at once.

        An engine that was held ready may have ended, or hang: it is started again within this time.
        """
        time = "2026-01-01T00:00:00Z" if regime.time_dependent else None
        loop = asyncio.get_running_loop()
        give_up_s, tries = loop.time() + TRY_S, 1
        while True:
            try:
                answers = await regime.engine.decide([canary(time)])
                break
            except NoDecision as error:
                if loop.time() >= give_up_s:
                    raise PreparationFailed(f"its engine gives no decision: {error}") from None
            tries += 1
            await asyncio.sleep(TRY_AGAIN_S)
        if "canary" not in answers:
            raise PreparationFailed("its engine has no well-formed answer to what every rulebook answers")
        return tries == 1

    async def _warm(self, prepared: PreparedRegime) -> None:
        if self._fanout is None:
            return
        regime = prepared.open_regime.regime
        lately = self._present.regime.decider.asked_lately(("publish", "subscribe"), LATE_QUESTIONS)
        try:
            async with asyncio.timeout(WARM_S):
                await asyncio.gather(self._fanout.warm(regime, prepared.warm), regime.decider.decide(lately))
        except TimeoutError:
            log.warning(
                "not all that open streams will ask was decided beforehand: revision=%s", prepared.revision
            )


@asynccontextmanager
async def put_in_force(
    builder: RegimeBuilder, first: Awaitable[PreparedRulebook], overlays: Overlays
) -> AsyncIterator[Switching]:
    """What is in force at a start, and whatever takes its place inside the block; at its end all engines are stopped.

    Raises RulebookRefused, OpaStartFailed, StorageUnavailable.
    """
    try:
        switching = await _begun(builder, await first, overlays)
        try:
            yield switching
        finally:
            await switching.close()
    finally:
        await builder.engines.close()


async def _begun(builder: RegimeBuilder, first: PreparedRulebook, overlays: Overlays) -> Switching:
    """In a function of its own: nothing that lives as long as the exchange may keep its first, perhaps large, rulebook."""
    present = await builder.build(await builder.engines.lend(first.revision.id, first))
    return Switching(builder, InForce(Order(present.regime, overlays)), present)
