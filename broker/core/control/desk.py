"""What use cases ask of the agreement: record something, put it in force everywhere, activate a revision."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.control.activations import Pending
from broker.core.control.confirming import Confirming
from broker.core.control.fold import EventVoid
from broker.core.control.runtime import ControlRuntime
from broker.core.control.state import ControlState
from broker.errors import EntenteError, LedgerFenced, Reason, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.ports.clock import Clock

Body = Mapping[str, JsonValue]

_ACTIVATION_BYTES = 8
PREPARE_TIMEOUT_S = 1_800.0
"""How long a live instance may take to prepare a revision, as long as examining it may take.

One of a million agreements takes three minutes of processor time, of which traffic leaves an instance only a part.
"""


@dataclass(frozen=True, slots=True)
class Enacted:
    """An event that is in force on every live instance. fenced: those that did not confirm, and are live no more."""

    position: int
    fenced: tuple[str, ...]
    took_ms: float


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be activated, as the control log is told."""

    revision: str
    by: Body
    proposal: str | None
    rollback: bool


class ControlDesk:
    """Used from one event loop. Methods raise EntenteError AGREEMENT_UNAVAILABLE if the log cannot be written or read."""

    def __init__(
        self,
        runtime: ControlRuntime,
        confirming: Confirming,
        clock: Clock,
        *,
        prepare_timeout_s: float = PREPARE_TIMEOUT_S,
    ) -> None:
        self._runtime = runtime
        self._confirming = confirming
        self._clock = clock
        self._prepare_timeout_s = prepare_timeout_s
        self._activating: set[asyncio.Task[Enacted]] = set()

    @property
    def state(self) -> ControlState:
        """What is agreed on, as far as it is applied here."""
        return self._runtime.state

    async def record(self, kind: str, body: Body) -> int:
        """Write an event and return its position once it is applied here. Raises EventVoid if it does not count.

        After AGREEMENT_UNAVAILABLE it may still come to count.
        """
        try:
            return await self._record(kind, body)
        except StorageUnavailable:
            raise EntenteError(Reason.AGREEMENT_UNAVAILABLE) from None

    async def enact(self, kind: str, body: Body) -> Enacted:
        """As `record`, and return once nothing older can be released anywhere."""
        begun_s = self._clock.monotonic_s()
        try:
            return await self._enacted(await self._record(kind, body), begun_s)
        except StorageUnavailable:
            raise EntenteError(Reason.AGREEMENT_UNAVAILABLE) from None

    async def confirmed(self, position: int) -> Enacted:
        """As `enact`, of an event that counted before."""
        try:
            return await self._enacted(position, self._clock.monotonic_s())
        except StorageUnavailable:
            raise EntenteError(Reason.AGREEMENT_UNAVAILABLE) from None

    async def activate(self, revision_id: str, *, by: Body, proposal: str | None, rollback: bool) -> Enacted:
        """Prepare a stored revision on all live instances, switch all, and return when no older one can be released.

        Goes on if the caller stops waiting. Raises EntenteError ACTIVATION_UNDER_WAY, or ACTIVATION_FAILED, which names
        instance and cause: then nothing changed.
        """
        order = _Order(revision_id, by, proposal, rollback)
        task = asyncio.get_running_loop().create_task(self._activate(order))
        self._activating.add(task)
        task.add_done_callback(self._activating.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except StorageUnavailable:
            raise EntenteError(Reason.AGREEMENT_UNAVAILABLE) from None

    async def close(self) -> None:
        """End what is under way here; another instance's next activation abandons it."""
        for task in self._activating:
            task.cancel()
        await asyncio.gather(*self._activating, return_exceptions=True)

    async def _record(self, kind: str, body: Body) -> int:
        position = await self._runtime.append(kind, dict(body))
        if not await self._runtime.counts(position):
            raise EventVoid(kind)
        return position

    async def _enacted(self, position: int, begun_s: float, fenced: tuple[str, ...] = ()) -> Enacted:
        fenced += await self._confirming.by_all(position)
        return Enacted(position, fenced, (self._clock.monotonic_s() - begun_s) * 1000)

    async def _activate(self, order: _Order) -> Enacted:
        begun_s = self._clock.monotonic_s()
        await self._clear_the_way()
        activation = secrets.token_hex(_ACTIVATION_BYTES)
        fenced: list[str] = []
        try:
            await self._begin(activation, order)
            await self._switch_when_ready(activation, fenced)
        except (LedgerFenced, EntenteError):
            raise
        except StorageUnavailable:
            await self._find_out(activation)
        except Exception:
            await self._find_out(activation)
            raise
        position = self._position_of(activation)
        if position is None:
            raise EntenteError(Reason.ACTIVATION_FAILED, "the control log could not be written in time")
        return await self._enacted(position, begun_s, tuple(fenced))

    async def _clear_the_way(self) -> None:
        """Abandon an activation whose leader is gone. Raises EntenteError ACTIVATION_UNDER_WAY if it is not."""
        while (pending := self.state.activations.pending) is not None:
            leader = self.state.members.present.get(pending.instance)
            if leader is not None and leader.run == pending.run:
                if not self._confirming.has_lapsed(leader):
                    raise _under_way(pending)
                await self._confirming.give_up(leader)
            await self._abandon(pending.activation, f"the instance '{pending.instance}' is gone")

    async def _begin(self, activation: str, order: _Order) -> None:
        body: dict[str, JsonValue] = {
            "activation": activation,
            "revision": order.revision,
            "base": self.state.activations.number,
            "run": self._runtime.settings.run,
            "by": dict(order.by),
            "proposal": order.proposal,
            "rollback": order.rollback,
        }
        try:
            await self._record("preparing", body)
        except EventVoid:
            pending = self.state.activations.pending
            if pending is None:
                raise EntenteError(Reason.ACTIVATION_FAILED, "another revision came into force") from None
            raise _under_way(pending) from None

    async def _switch_when_ready(self, activation: str, fenced: list[str]) -> None:
        """Until the event that switches all counts: an instance that joins in between has to prepare first."""
        while True:
            await self._all_prepared(activation, fenced)
            base = self.state.activations.number
            try:
                await self._record("activated", {"activation": activation, "base": base})
            except EventVoid:
                continue
            return

    async def _all_prepared(self, activation: str, fenced: list[str]) -> None:
        """Raises EntenteError ACTIVATION_FAILED after abandoning it."""
        give_up_s = self._clock.monotonic_s() + self._prepare_timeout_s
        while True:
            pending = self.state.activations.pending
            if pending is None or pending.activation != activation:
                raise EntenteError(Reason.ACTIVATION_FAILED, "another instance abandoned it")
            if pending.is_ready(self.state.members):
                return
            cause = self._why_not(pending)
            if not cause and self._clock.monotonic_s() >= give_up_s:
                cause = (
                    f"{self._unready(pending)} took longer than {self._prepare_timeout_s:.0f} s to prepare it"
                )
            if cause:
                await self._abandon(activation, cause)
                raise EntenteError(Reason.ACTIVATION_FAILED, cause)
            gone = await self._give_up_silent(pending)
            fenced += gone
            if not gone:
                await self._runtime.next_news()

    async def _give_up_silent(self, pending: Pending) -> list[str]:
        """Fence those that have not prepared and give no sign of life; their names."""
        gone = []
        for member in self.state.members.present.values():
            is_silent = member.run not in pending.prepared and self._confirming.has_lapsed(member)
            if is_silent and await self._confirming.give_up(member):
                gone.append(member.instance)
        return gone

    def _why_not(self, pending: Pending) -> str:
        """The first member, by name, that cannot prepare it, and its cause."""
        for name, member in sorted(self.state.members.present.items()):
            if member.run in pending.failed:
                return f"the instance '{name}' cannot prepare it: {pending.failed[member.run]}"
        return ""

    def _unready(self, pending: Pending) -> str:
        members = self.state.members.present.items()
        names = sorted(name for name, member in members if member.run not in pending.prepared)
        return "the instances " + ", ".join(f"'{name}'" for name in names)

    async def _abandon(self, activation: str, cause: str) -> None:
        """Nothing to do if it is over already."""
        try:
            await self._record("abandoned", {"activation": activation, "cause": cause})
        except EventVoid:
            return

    async def _find_out(self, activation: str) -> None:
        """Whether what could not be confirmed is in force: after this event it is, or never will be."""
        while True:
            try:
                await self._abandon(activation, "the control log could not be written in time")
                return
            except LedgerFenced:
                raise
            except StorageUnavailable:
                await self._runtime.next_news()

    def _position_of(self, activation: str) -> int | None:
        for past in reversed(self.state.activations.history):
            if past.activation == activation:
                return past.position
        return None


def _under_way(pending: Pending) -> EntenteError:
    detail = f"of revision {pending.revision[:12]}, led by the instance '{pending.instance}'"
    return EntenteError(Reason.ACTIVATION_UNDER_WAY, detail)
