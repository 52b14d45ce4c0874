"""Reads records and prepares batches of them, for one group; what comes of it counts once the ledger has it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.deliver.budget import Budget
from broker.core.deliver.lens import Lens
from broker.core.deliver.prepare import Prepared, Preparer, is_held
from broker.core.deliver.session import Session
from broker.core.deliver.standing import Standing
from broker.core.in_force import Order
from broker.core.regime import Regime
from broker.errors import EntenteError, PositionExpired, StorageUnavailable
from broker.model.record import Chunk, Positions
from broker.ports.clock import Clock
from broker.ports.record_log import RecordLog

CHUNK_RECORDS = 500
CHUNK_BYTES = 1 << 20
BATCH_BYTES = 1536 << 10
LINGER_S = 0.02
AHEAD_S = 0.25
"""How long what was prepared ahead may be used: what it was decided and looked at for could otherwise be over."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The batch after the one that the ledger is writing, if everything is then as it was taken to be."""

    begin: Standing
    receivers: frozenset[Session]
    prepared: Prepared
    at_s: float

    def holds(self, order: Order[Regime], standing: Standing, ready: Sequence[Session], now_s: float) -> bool:
        """Whether it is what would be prepared now: for the same streams, from here, by this order, within their budgets."""
        if self.prepared.order is not order:
            return False
        if self.begin != standing or self.receivers != frozenset(ready):
            return False
        budget, deliveries = shared_budget(ready), self.prepared.deliveries
        before_last_bytes = self.prepared.size_bytes - len(deliveries[-1])
        fits = len(deliveries) <= budget.records and before_last_bytes < budget.size_bytes
        return fits and now_s - self.at_s <= AHEAD_S


class Collector:
    """Reads one topic for one group."""

    def __init__(self, record_log: RecordLog, preparer: Preparer, clock: Clock, topic: str) -> None:
        self._record_log = record_log
        self._preparer = preparer
        self._clock = clock
        self._topic = topic

    async def read(self, positions: Positions, wait_s: float) -> Chunk:
        """The next records; waits so long for one."""
        return await self._record_log.read(
            self._topic, positions, max_records=CHUNK_RECORDS, max_bytes=CHUNK_BYTES, wait_s=wait_s
        )

    async def collect(self, chunk: Chunk, lens: Lens, budget: Budget, prepared: Prepared) -> None:
        """Batches are cut by released bytes and time only, so that what is withheld does not show (rule 6)."""
        deadline_s = self._clock.monotonic_s() + LINGER_S
        while True:
            await self._preparer.prepare(lens, chunk, budget, prepared)
            if prepared.cut or prepared.stalled or prepared.size_bytes >= BATCH_BYTES:
                return
            if prepared.account.is_full:
                return
            if self._clock.monotonic_s() >= deadline_s:
                return
            chunk = await self.read(prepared.standing.next, 0)
            if not chunk.records:
                prepared.standing = prepared.standing.moved(chunk.next_positions)
                return

    async def catch_up(self, lens: Lens, budget: Budget, prepared: Prepared) -> None:
        """One chunk for each owner that lags; those that still have no decision keep their place."""
        for lag in prepared.standing.lags:
            if is_held(lens, lag.owner, prepared, self._clock.now_ms()):
                prepared.held = True
                continue
            positions = list(prepared.standing.next)
            positions[lag.partition] = lag.offset
            chunk = await self.read(tuple(positions), 0)
            await self._preparer.catch_up(lens, chunk, lag, budget, prepared)
            if prepared.cut:
                return

    async def look_ahead(
        self, lens: Lens, receivers: Sequence[Session], handed_out: Prepared
    ) -> Ahead | None:
        """Prepare the batch that follows while the ledger writes; nothing of it counts before it is taken up."""
        budget = shared_budget(receivers, handed_out)
        begin = handed_out.standing
        if handed_out.stalled or handed_out.held or begin.lags or not budget.is_open:
            return None
        prepared = Prepared(begin, handed_out.order, handed_out.apart)
        with contextlib.suppress(
            StorageUnavailable, PositionExpired, EntenteError
        ):  # the next step meets it again
            chunk = await self.read(begin.next, 0)
            if chunk.records:
                await self.collect(chunk, lens, budget, prepared)
        if not prepared.deliveries:
            return None
        return Ahead(begin, frozenset(receivers), prepared, self._clock.monotonic_s())


def shared_budget(ready: Sequence[Session], before: Prepared | None = None) -> Budget:
    """The least of the members' budgets, what each of them can take whole, and never more than clients accept at once.

    before: a batch that each of them is about to be handed first, and that its budget does not show yet.
    Redaction can make records longer, so that what was read says little about what goes out; with a record of 1 MiB as
    its last, a batch stays below gRPC's default limit of 4 MiB.
    """
    budgets = [member.budget(len(ready)) for member in ready]
    if not budgets:
        return Budget(0, 0)
    records, size_bytes = min(b.records for b in budgets), min(b.size_bytes for b in budgets)
    if before is not None:
        records, size_bytes = records - len(before.deliveries), size_bytes - before.size_bytes
    return Budget(records, min(BATCH_BYTES + CHUNK_BYTES, size_bytes))
