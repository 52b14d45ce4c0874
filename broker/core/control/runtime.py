"""One instance's part in the agreement: it follows the control log, applies what counts, and says how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.core.control.applier import Applier
from broker.core.control.leases import Leases
from broker.core.control.members import Member
from broker.core.control.news import News
from broker.core.control.readiness import Readiness
from broker.core.control.state import ControlState
from broker.errors import LedgerFenced, StorageUnavailable, fault_place
from broker.model.control import Beat, ControlEvent, Heard
from broker.model.ledger import JsonValue
from broker.ports.clock import Clock
from broker.ports.control import ControlLog

log = logging.getLogger(__name__)

_VOIDS = 1_000
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """lease_s: how long an instance counts as alive after a beat. beat_s: between two beats, if nothing calls for one."""

    instance: str
    run: str
    lease_s: float = 10.0

    @property
    def beat_s(self) -> float:
        """Four beats a lease."""
        return self.lease_s / 4


class ControlRuntime:
    """Follows from `follow` on, and belongs to the exchange from `join` to `leave`; used from one event loop."""

    def __init__(
        self, control_log: ControlLog, settings: ControlSettings, clock: Clock, boot_s: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.state = ControlState()
        self.position = -1
        """Of the newest event that was applied."""
        self.leases = Leases(settings.run, settings.lease_s, boot_s)
        self.news = News()
        self.stopped: asyncio.Future[LedgerFenced] = asyncio.get_running_loop().create_future()
        """Done once this instance no longer belongs to the exchange, or cannot tell: it must release nothing any more."""
        self._log = control_log
        self._clock = clock
        self._void: deque[int] = deque(maxlen=_VOIDS)
        self._passing: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._applier: Applier | None = None
        self._readiness: Readiness | None = None
        self._awaited: deque[int] = deque()
        self._due = asyncio.Event()
        self._beater: asyncio.Task[None] | None = None
        self._left = False

    async def follow(self) -> None:
        """Learn all that was agreed on so far; raises StorageUnavailable."""
        await self._log.follow(self._heard, self._lost)
        if self.stopped.done():
            raise StorageUnavailable(str(self.stopped.result()))

    async def join(self, applier: Applier, revision: str, ledger_epoch: int) -> None:
        """Become a member, with `revision` in force here; return when what is in force is what is agreed on.

        Nothing may be released before. Raises StorageUnavailable, and PreparationFailed if what is agreed on meanwhile
        cannot be put in force here.
        """
        self._applier = applier
        position = await self.append("joined", {"run": self.settings.run, "ledger_epoch": ledger_epoch})
        if not await self.counts(position):
            raise StorageUnavailable(
                f"a newer start of the instance '{self.settings.instance}' has joined; stop this one, or if the ledger was"
                " lost, choose another ledger.instance"
            )
        await self._take_over(applier, revision)
        if self.member is None:
            raise StorageUnavailable("the other instances have gone on without this one; start it again")
        self._replace(lambda: applier.restrict(self.state.overlays.overlays))
        self._readiness = Readiness(applier, self.settings.run, self.append)
        self._react()
        self._beater = asyncio.get_running_loop().create_task(self._beat_on())
        give_up_s = self._clock.monotonic_s() + _START_TIMEOUT_S
        while not self.leases.holds():
            await self.next_news()
            if self._clock.monotonic_s() >= give_up_s:
                raise StorageUnavailable("the control log does not bring this instance's signs of life")

    async def leave(self) -> None:
        """Nothing is released here any more: say so. Idempotent, and does not raise."""
        if self._left:
            return
        self._left = True
        if self._readiness is not None:
            await self._readiness.close()
        if self._beater is not None:
            self._beater.cancel()
            await asyncio.wait([self._beater])
        if self.member is not None and not self.stopped.done():
            with contextlib.suppress(StorageUnavailable):
                await self.append("left", {"run": self.settings.run})

    def may_release(self) -> bool:
        """Whether this instance is a member, as far as it can know: asked before each write of the ledger."""
        return not self.stopped.done() and self.leases.holds()

    @property
    def member(self) -> Member | None:
        """This run's own membership."""
        found = self.state.members.present.get(self.settings.instance)
        return found if found is not None and found.run == self.settings.run else None

    async def append(self, kind: str, body: dict[str, JsonValue]) -> int:
        """Write an event and return its position; raises StorageUnavailable, after which it may still be stored."""
        self._check_running()
        event = ControlEvent(kind, self._clock.now_ms(), self.settings.instance, body)
        return await self._log.append(event)

    async def counts(self, position: int) -> bool:
        """Wait until an event that was just written is applied here, and say whether it counts.

        Raises StorageUnavailable if it does not come back for a lease.
        """
        give_up_s = self._clock.monotonic_s() + max(self.settings.lease_s, 10.0)
        while self.position < position:
            if self._clock.monotonic_s() >= give_up_s:
                raise StorageUnavailable("the control log does not bring what was written to it")
            await self.next_news()
        return position not in self._void

    async def next_news(self) -> None:
        """Wait until something was heard, at most a beat long; raises StorageUnavailable if this instance has to stop."""
        self._check_running()
        await self.news.wait(self.settings.beat_s)

    def _check_running(self) -> None:
        if self.stopped.done():
            raise LedgerFenced(str(self.stopped.result()))

    async def _take_over(self, applier: Applier, revision: str) -> None:
        """What was agreed on between reading the log and joining; later activations wait for this instance."""
        agreed = self.state.activations.revision
        if agreed is not None and agreed != revision:
            prepared = await applier.prepare(agreed)
            self._replace(lambda: applier.switch(prepared))

    def _heard(self, entries: Sequence[Heard]) -> None:
        """In the event loop: what restricts works before this returns."""
        for entry in entries:
            if isinstance(entry.content, Beat):
                self.leases.heard(entry.content)
            elif not self.stopped.done():
                self._apply(entry.content, entry.position)
        self._react()
        self.news.tell()

    def _apply(self, event: ControlEvent, position: int) -> None:
        if event.kind not in self.state.kinds:
            self._stop(
                f"the control log holds an event of the kind '{event.kind[:40]}', which this version does not know;"
                " upgrade this instance"
            )
            return
        was, now = self.state, self.state.apply(event, position)
        self.position = position
        if now is None:
            self._void.append(position)
            return
        self.state = now
        mine = (
            event.instance == self.settings.instance
        )  # whoever waits for it is here, and needs no beat of this one
        if self._readiness is not None and not mine and now.takes_effect(event.kind):
            self._awaited.append(position)
        for member in now.members.present.values():
            self.leases.met(member.run)
        self._put_in_force(was)

    def _put_in_force(self, was: ControlState) -> None:
        """What an event that counts changes here."""
        if self._applier is None or self._readiness is None:
            return
        if self.member is None and not self._left:
            self._stop(self._why_no_member())
            return
        applier, activations, overlays = self._applier, self.state.activations, self.state.overlays.overlays
        if activations.number != was.activations.number:
            newest = activations.history[-1]
            prepared = self._readiness.take(newest.activation)
            if prepared is None:
                self._stop(f"revision {newest.revision} is in force, and was not prepared here; start again")
                return
            self._replace(lambda: applier.switch(prepared))
        if overlays is not was.overlays.overlays:
            self._replace(lambda: applier.restrict(overlays))

    def _why_no_member(self) -> str:
        name = self.settings.instance
        if name in self.state.members.present:
            return (
                f"another broker has taken over the ledger '{name}', and this one stops;"
                " give each a ledger.instance of its own"
            )
        return "the other instances have gone on without this one, which did not answer for too long; start it again"

    def _replace(self, change: Callable[[], asyncio.Future[None]]) -> None:
        """Change what is in force here, and remember until when something may be released under what was before."""
        try:
            over = change()
        except Exception as error:  # noqa: BLE001 - the log's other entries must be heard, and nothing be released
            self._stop(f"what is in force could not be changed here, start again: {fault_place(error)}")
            return
        self._passing.append((self.position, over))
        over.add_done_callback(self._passed)

    def _passed(self, _: asyncio.Future[None]) -> None:
        self._react()
        self.news.tell()

    def _react(self) -> None:
        """After news: prepare what is about to be activated, and tell the others how far this instance is."""
        if self._readiness is None or self._left or self.stopped.done():
            return
        self._readiness.want(self.state.activations.pending)
        while self._passing and self._passing[0][1].done():
            _, over = self._passing.popleft()
            if over.cancelled() or over.exception() is not None:
                self._stop("what was in force before could not be ended here; start again")
                return
        self._due.set()

    @property
    def confirmed(self) -> int:
        """The newest event such that nothing can be released here any more under what was in force before it."""
        return self._passing[0][0] - 1 if self._passing else self.position

    async def _beat_on(self) -> None:
        """Several beats in each lease, and one whenever this instance got where somebody waits for it."""
        settings = self.settings
        while True:
            self._due.clear()
            confirmed = self.confirmed
            beat = Beat(settings.instance, settings.run, self.leases.next_beat(), confirmed)
            try:
                await self._log.beat(beat)
            except StorageUnavailable as error:
                log.warning("no sign of life can be given now: %s", error)
                await asyncio.sleep(settings.beat_s / 4)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.beat_s):
                    while not self._is_awaited(confirmed):
                        self._due.clear()
                        await self._due.wait()

    def _is_awaited(self, told: int) -> bool:
        """Whether somebody waits for this instance at a position that it has reached after the one that it told last.

        Only what takes effect is waited for. A beat for any other event would keep the next one waiting while it is stored.
        """
        while self._awaited and self._awaited[0] <= told:
            self._awaited.popleft()
        return bool(self._awaited) and self._awaited[0] <= self.confirmed

    def _lost(self) -> None:
        self._stop("the control log lost entries; restore it, and start again")
        self.news.tell()

    def _stop(self, cause: str) -> None:
        if not self.stopped.done():
            log.error("this instance stops: %s", cause)
            self.stopped.set_result(LedgerFenced(cause))
