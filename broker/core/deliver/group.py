"""A group: the sessions of one class at one position of one topic, decided once, encoded once, accounted once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from broker.core.deliver.budget import Budget
from broker.core.deliver.collect import Ahead, Collector, shared_budget
from broker.core.deliver.entries import delivery_entry, fault_entry, group_class
from broker.core.deliver.history import Considered, Histories, History
from broker.core.deliver.lens import Lens
from broker.core.deliver.placement import GroupKey, Placement, Tools
from broker.core.deliver.prepare import Prepared
from broker.core.deliver.session import Session
from broker.core.deliver.standing import Standing
from broker.core.in_force import Order, OrderReplaced
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.receipt import Receipt
from broker.core.regime import Regime
from broker.errors import EntenteError, PositionExpired, Reason, StorageUnavailable, fault_place

log = logging.getLogger(__name__)

WAIT_S = 5.0
TAKE_OFF_TURNS = 2
"""Turns of the event loop in which an entry is made and sent: what follows is prepared while it is under way, not before."""
BACKOFF_S = (0.05, 2.0)


class Group:
    """Moves its members together; a member without credit when something is to be released leaves it and is parked."""

    def __init__(self, tools: Tools, placement: Placement[Group], key: GroupKey, standing: Standing) -> None:
        self.key = key
        self.standing = standing
        self.members: set[Session] = set()
        self.task: asyncio.Task[None] | None = None
        self.accounting: asyncio.Task[None] | None = None
        self._tools = tools
        self._placement = placement
        self._backoff_s = BACKOFF_S[0]
        self._retry_at_s = 0.0
        self._class = group_class(key.topic, key.subject)
        self._histories = Histories()
        self._collector = Collector(tools.record_log, tools.preparer, tools.clock, key.topic)
        self._ahead: Ahead | None = None

    def join(self, session: Session) -> None:
        """A session that stands where the group does."""
        session.history = self._histories.adopt(session.history)
        self.members.add(session)

    def leave(self, session: Session) -> None:
        """The session keeps its position, and what was considered for it; nothing if it is no member."""
        if session in self.members:
            self.members.discard(session)
            session.history = session.history.copy()

    def absorb(self, other: Group) -> None:
        """All members of another group that stands where this one does."""
        mine = self._histories.adopt_all({id(m.history): m.history for m in other.members}.values())
        for member in other.members:
            member.history = mine[id(member.history)]
        self.members |= other.members
        other.members = set()

    async def run(self) -> None:
        """Until no member is left."""
        try:
            while self._live():
                await self._guarded_step()
        finally:
            self._placement.forget(self)

    def _live(self) -> bool:
        regime = self._tools.in_force.present.regime
        for member in [m for m in self.members if not self._is_served(m, regime)]:
            self.leave(member)
            self._placement.park(member)
        return bool(self.members)

    def _is_served(self, member: Session, regime: Regime) -> bool:
        """Whether anything may be released to the member here, by this regime."""
        belongs = member.admitted is regime and member.apart == self.key.apart
        return belongs and self._placement.is_served(member)

    async def _guarded_step(self) -> None:
        """A store that cannot answer stalls the group; a fault of ours ends its streams, and nothing is skipped."""
        try:
            await self._step()
        except OrderReplaced:
            return  # nothing was released, and it is decided again by what is in force now
        except PositionExpired:
            self._fail(EntenteError(Reason.POSITION_EXPIRED))
        except (StorageUnavailable, EntenteError) as error:
            log.warning("delivery stalls: topic=%s reason=%s", self.key.topic, error)
            self._back_off()
            await asyncio.sleep(self._backoff_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not skip a record
            log.error("delivery failed: topic=%s error=%s", self.key.topic, fault_place(error))
            self._fail(EntenteError(Reason.INTERNAL))

    async def _step(self) -> None:
        """Read, prepare, account, hand out: first what lags, then what is new."""
        order = self._tools.in_force.present
        if await self._written_out(order):
            return
        begin = self.standing
        if begin.lags and self._now_s() >= self._retry_at_s:
            await self._serve(order, begin, self._collector.catch_up)
        begin = self.standing
        ready, ahead = self._ready(), self._ahead
        self._ahead = None
        lapsed = ahead is not None and ahead.prepared.has_lapsed(self._tools.clock.now_ms())
        if ahead is not None and not lapsed and ahead.holds(order, self.standing, ready, self._now_s()):
            await self._conclude(begin, ready, ahead.prepared)
            return
        chunk = await self._collector.read(begin.next, self._wait_s())
        if chunk.records:
            # Reading may have waited long: what has come into force meanwhile decides.
            order = self._tools.in_force.present
            await self._serve(order, begin, partial(self._collector.collect, chunk))
        else:
            self._move(begin.moved(chunk.next_positions))

    def _ready(self) -> list[Session]:
        return [member for member in self.members if member.budget().is_open]

    async def _serve(
        self,
        order: Order[Regime],
        begin: Standing,
        prepare: Callable[[Lens, Budget, Prepared], Awaitable[None]],
    ) -> None:
        ready = self._ready()
        prepared = Prepared(begin, order, self.key.apart)
        await prepare(self._lens(order), shared_budget(ready), prepared)
        await self._conclude(begin, ready, prepared)

    async def _conclude(self, begin: Standing, ready: list[Session], prepared: Prepared) -> None:
        """Release what was prepared, or move on if nothing is to be released."""
        if await self._written_out(prepared.order, prepared.account.considered):
            return  # it is prepared again
        if prepared.deliveries:
            await self._release(ready, prepared)
        else:
            await self._pass_over(prepared)
            if prepared.cut and not ready:
                self._park()
        if not prepared.stalled and not prepared.held:
            self._backoff_s = BACKOFF_S[0]
        elif prepared.standing == begin:
            self._back_off()
            if prepared.blocked:
                await asyncio.sleep(self._backoff_s)
        else:
            self._retry_at_s = self._now_s() + self._backoff_s

    async def _pass_over(self, prepared: Prepared) -> None:
        """Nothing is to be released of what was prepared."""
        with self._tools.in_force.passage(prepared.order):
            if prepared.account.faulted:
                fault = fault_entry(self._tools.evidence, self._class, prepared)
                await self._tools.evidence.write_all([fault])
            self._histories.extend(prepared.account.considered, prepared.standing)
            self._move(prepared.standing)

    async def _release(self, ready: Sequence[Session], prepared: Prepared) -> None:
        """Account and hand out, which runs to its end even if this group is given up meanwhile.

        Else nobody could say whether the entry of a stream that leaves in the middle of this became durable.
        """
        # One that left while the batch was prepared, for its class changed or it ended, is not this group's any more.
        regime = prepared.order.regime
        receivers = [m for m in ready if m in self.members and self._is_served(m, regime)]
        if not receivers:
            return
        self.accounting = asyncio.ensure_future(self._account(receivers, prepared))
        for member in receivers:
            member.accounting = self.accounting
        self.accounting.add_done_callback(_retrieve)
        if prepared.deliveries:
            for _ in range(TAKE_OFF_TURNS):
                await asyncio.sleep(0)
        if prepared.deliveries and prepared.order is self._tools.in_force.present:
            self._ahead = await self._collector.look_ahead(self._lens(prepared.order), receivers, prepared)
        await asyncio.shield(self.accounting)

    async def _written_out(self, order: Order[Regime], step: Considered | None = None) -> bool:
        """Account for what was withheld if it is much, with this step, so that memory is bounded and nothing is lost."""
        if not self._histories.exceed(step):
            return False
        self._histories.keep_only([member.history for member in self.members])
        if not self._histories.exceed(step):
            return False
        part = self._histories.part()
        told = Prepared(self.standing, order)
        await self._release([m for m in self.members if id(m.history) in part], told)
        return True

    async def _account(self, receivers: Sequence[Session], prepared: Prepared) -> None:
        """Evidence first: no byte leaves before the entry that names its receivers is durable (rule 3).

        Raises OrderReplaced if what was prepared is of an order that is not in force any more.
        """
        try:
            with self._tools.in_force.passage(prepared.order):
                self._accounted(receivers, prepared, await self._write(receivers, prepared))
        finally:
            for member in receivers:
                member.accounting = None

    def _accounted(self, receivers: Sequence[Session], prepared: Prepared, receipt: Receipt) -> None:
        """Nothing waits: what is durable is handed out, and where everybody stands is set at once."""
        begin, end = self.standing, prepared.standing
        self.standing = end
        self._histories = Histories()
        for member in receivers:
            member.history = History.begin(end)
        self._hand_out(receivers, prepared, receipt)
        self._leave_behind(self.members.difference(receivers), begin)
        self._placement.merge(self)

    async def _write(self, receivers: Sequence[Session], prepared: Prepared) -> Receipt:
        evidence, account = self._tools.evidence, prepared.account
        secret = EntrySecret.fresh(self._tools.keys)
        faults = [fault_entry(evidence, self._class, prepared)] if account.faulted else []
        delivery = delivery_entry(evidence, self._class, receivers, prepared, secret)
        places = await evidence.write_all([*faults, delivery], patient=True)
        return Receipt(places[-1], secret.secret)

    def _hand_out(self, receivers: Sequence[Session], prepared: Prepared, receipt: Receipt) -> None:
        deliveries = b"".join(prepared.deliveries)
        history = self._histories.adopt(History.begin(self.standing))
        lapsed = prepared.has_lapsed(self._tools.clock.now_ms())
        for member in receivers:
            if member not in self.members:
                continue
            member.history = history
            if not deliveries or not self._placement.is_served(member):
                continue
            if lapsed:  # while the ledger wrote: it counts as released, and where it is asked for again it is withheld
                member.fail(EntenteError(Reason.LEDGER_UNAVAILABLE))
            else:
                member.hand_out(deliveries, len(prepared.deliveries), self.standing, receipt)

    def _leave_behind(self, members: Iterable[Session], begin: Standing) -> None:
        """Those that joined while the batch was prepared, or have no credit, stay where they were."""
        for member in members:
            self.members.discard(member)
            member.standing = begin
            self._placement.place(member)

    def _park(self) -> None:
        parked, self.members = self.members, set()
        self._histories = Histories()  # the old ones stay with those who are parked
        for member in parked:
            self._placement.park(member)

    def _move(self, standing: Standing) -> None:
        """All members, since nothing was released, those that joined meanwhile included."""
        self.standing = standing
        for member in self.members:
            member.standing = standing
        self._placement.merge(self)

    def _fail(self, error: EntenteError) -> None:
        for member in self.members:
            member.fail(error)
        self.members = set()

    def _lens(self, order: Order[Regime]) -> Lens:
        return self._placement.lens(order.regime, self.key.topic, self.key.subject)

    def _back_off(self) -> None:
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])
        self._retry_at_s = self._now_s() + self._backoff_s

    def _wait_s(self) -> float:
        if not self.standing.lags:
            return WAIT_S
        return min(WAIT_S, max(0.0, self._retry_at_s - self._now_s()))

    def _now_s(self) -> float:
        return self._tools.clock.monotonic_s()


def _retrieve(accounting: asyncio.Future[None]) -> None:
    """Where nobody waits for it any more, its failure is no news: nothing was released."""
    if not accounting.cancelled():
        accounting.exception()
