"""A group: the sessions of one class at one position of one topic, decided once, encoded once, accounted once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.core.deliver.prepare import Budget, Lens, Prepared
from broker.core.evidence import list_of
from broker.errors import EntenteError, PositionExpired, Reason, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.model.record import Chunk, Positions

if TYPE_CHECKING:
    from broker.core.deliver.fanout import FanOut
    from broker.core.deliver.session import Session

log = logging.getLogger(__name__)

CHUNK_RECORDS = 500
CHUNK_BYTES = 1 << 20
BATCH_BYTES = 512 << 10
LINGER_S = 0.02
WAIT_S = 5.0
BACKOFF_S = (0.05, 2.0)


class Group:
    """Moves its members together; a member without credit when something is to be released leaves it and is parked."""

    def __init__(self, fanout: FanOut, lens: Lens, positions: Positions) -> None:
        self.lens = lens
        self.positions = positions
        self.members: set[Session] = set()
        self._fanout = fanout
        self._backoff_s = BACKOFF_S[0]
        self._unaccounted = positions
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until no member is left."""
        try:
            while self._live():
                await self._guarded_step()
        finally:
            self._fanout.forget(self)

    def _live(self) -> bool:
        self.members = {member for member in self.members if self._fanout.is_served(member)}
        return bool(self.members)

    async def _guarded_step(self) -> None:
        """A store that cannot answer stalls the group; a fault of ours ends its streams, and nothing is skipped."""
        try:
            progressed = await self._step()
        except PositionExpired:
            self._fail(EntenteError(Reason.POSITION_EXPIRED))
            return
        except (StorageUnavailable, EntenteError) as error:
            log.warning("delivery stalls: topic=%s reason=%s", self.lens.topic, error)
            progressed = False
        except Exception:
            log.exception("delivery failed: topic=%s", self.lens.topic)
            self._fail(EntenteError(Reason.INTERNAL))
            return
        await self._pace(progressed)

    async def _pace(self, progressed: bool) -> None:
        if progressed:
            self._backoff_s = BACKOFF_S[0]
            return
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])

    async def _step(self) -> bool:
        """Read, prepare, account, hand out; False if a record without a decision stopped all progress."""
        begin = self.positions
        chunk = await self._read(begin, WAIT_S)
        if not chunk.records:
            self._move(list(self.members), chunk.next_positions)
            return True
        ready = [
            member for member in self.members if self._fanout.is_served(member) and member.budget().is_open
        ]
        prepared = await self._collect(chunk, begin, _shared_budget(ready))
        if prepared.deliveries:
            await self._release(ready, prepared)
        else:
            self._advance(prepared.positions)
            if prepared.cut and not ready:
                self._park(list(self.members))
        return prepared.positions != begin or not prepared.stalled

    async def _collect(self, chunk: Chunk, begin: Positions, budget: Budget) -> Prepared:
        """Batches are cut by released bytes and time only, so that what is withheld does not show (rule 6)."""
        prepared = Prepared(begin)
        deadline = self._fanout.clock.monotonic_s() + LINGER_S
        while True:
            await self._fanout.preparer.prepare(self.lens, chunk, prepared.positions, budget, prepared)
            full = prepared.cut or prepared.stalled or prepared.size_bytes >= BATCH_BYTES
            if full or self._fanout.clock.monotonic_s() >= deadline:
                return prepared
            chunk = await self._read(prepared.positions, 0)
            if not chunk.records:
                prepared.positions = chunk.next_positions
                return prepared

    async def _read(self, positions: Positions, wait_s: float) -> Chunk:
        return await self._fanout.record_log.read(
            self.lens.topic, positions, max_records=CHUNK_RECORDS, max_bytes=CHUNK_BYTES, wait_s=wait_s
        )

    async def _release(self, ready: list[Session], prepared: Prepared) -> None:
        """Evidence first: no byte leaves before the entry that names its receivers is durable (rule 3)."""
        begin = self.positions
        await self._account(ready, prepared)
        deliveries = b"".join(prepared.deliveries)
        self.positions = self._unaccounted = prepared.positions
        for member in ready:
            if self._fanout.is_served(member):
                member.hand_out(deliveries, len(prepared.deliveries), prepared.positions)
        self._leave_behind([m for m in self.members if m not in ready], begin)
        self._fanout.merge(self)

    async def _account(self, ready: list[Session], prepared: Prepared) -> None:
        subject: JsonValue = {
            "agency": self.lens.subject.agency,
            "roles": list(self.lens.subject.roles),
            "attributes": dict(self.lens.subject.attributes),
            "purpose": self.lens.subject.purpose,
        }
        receivers = list_of([_receiver(member) for member in ready])
        body = prepared.account.as_body(self._unaccounted, prepared.positions)
        await self._fanout.evidence.write(
            "delivery", {"topic": self.lens.topic, "class": subject, "receivers": receivers, **body}
        )

    def _leave_behind(self, members: list[Session], begin: Positions) -> None:
        """Those that joined while the batch was prepared, or have no credit, stay where they were."""
        for member in members:
            self.members.discard(member)
            member.positions = begin
            self._fanout.place(member)

    def _park(self, members: list[Session]) -> None:
        for member in members:
            self.members.discard(member)
            self._fanout.park(member)

    def _advance(self, positions: Positions) -> None:
        self._move(list(self.members), positions)

    def _move(self, members: list[Session], positions: Positions) -> None:
        self.positions = positions
        for member in members:
            member.positions = positions
        self._fanout.merge(self)

    def _fail(self, error: EntenteError) -> None:
        for member in self.members:
            member.fail(error)
        self.members = set()


def _shared_budget(ready: list[Session]) -> Budget:
    """The least of the members' budgets: what each of them can take whole."""
    budgets = [member.budget() for member in ready]
    if not budgets:
        return Budget(0, 0)
    return Budget(min(b.records for b in budgets), min(b.size_bytes for b in budgets))


def _receiver(member: Session) -> JsonValue:
    return {
        "subject": member.principal.subject,
        "token": member.principal.token_id,
        "subscription": member.binding.subscription,
        "epoch": member.epoch,
    }
