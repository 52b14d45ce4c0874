"""The control log in memory, followed by several instances of a test, and an instance that applies what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.core.control.applier import PreparationFailed
from broker.core.control.confirming import Confirming
from broker.core.control.desk import ControlDesk
from broker.core.control.members import Member
from broker.core.control.runtime import ControlRuntime, ControlSettings
from broker.errors import StorageUnavailable
from broker.model.control import Beat, ControlEvent, Heard
from broker.model.overlay import Overlays
from tests.fakes.clock import TurnedClock

LEASE_S = 0.4


@dataclass
class SharedControl:
    """What several logs share: the entries, and which epoch of each instance's ledger is fenced."""

    entries: list[Heard] = field(default_factory=list)
    logs: list[MemoryControlLog] = field(default_factory=list)
    fenced: list[tuple[str, int]] = field(default_factory=list)

    def put(self, content: ControlEvent | Beat) -> int:
        """Store an entry, and let everybody hear it."""
        position = 10 * len(self.entries)
        self.entries.append(Heard(position, content))
        for log in self.logs:
            log.stir()
        return position

    def kinds(self) -> list[str]:
        """Of all events, in order."""
        return [each.content.kind for each in self.entries if isinstance(each.content, ControlEvent)]

    async def fence(self, instance: str, epoch: int) -> None:
        """See LedgerFence."""
        self.fenced.append((instance, epoch))


class MemoryControlLog:
    """The ControlLog port.

    deaf: hears nothing until `listen`. mute: refuses all that is written. late: kinds that it stores once and
    reports as not stored.
    """

    def __init__(self, shared: SharedControl) -> None:
        self._shared = shared
        self._heard: Callable[[Sequence[Heard]], None] | None = None
        self._next = 0
        self.deaf = False
        self.mute = False
        self.late: set[str] = set()
        shared.logs.append(self)

    async def append(self, event: ControlEvent) -> int:
        await asyncio.sleep(0)
        if self.mute:
            raise StorageUnavailable("mute")
        position = self._shared.put(event)
        if event.kind in self.late:
            self.late.discard(event.kind)
            raise StorageUnavailable("late")
        return position

    async def beat(self, beat: Beat) -> None:
        await asyncio.sleep(0)
        if self.mute:
            raise StorageUnavailable("mute")
        self._shared.put(beat)

    async def follow(self, heard: Callable[[Sequence[Heard]], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._deliver()

    async def close(self) -> None:
        self._heard = None

    def stir(self) -> None:
        """Something may be there."""
        asyncio.get_running_loop().call_soon(self._deliver)

    def listen(self) -> None:
        """Hear all that came while it was deaf."""
        self.deaf = False
        self._deliver()

    def _deliver(self) -> None:
        if self._heard is None or self.deaf:
            return
        new, self._next = self._shared.entries[self._next :], len(self._shared.entries)
        if new:
            self._heard(new)


@dataclass
class FakePrepared:
    """The Prepared of a revision."""

    revision: str
    engine: str = "opa 1"
    discarded: bool = False

    async def discard(self) -> None:
        self.discarded = True


class FakeApplier:
    """Records what it is told. slow: until this is set, preparing takes. passing: until this is set, old passages last."""

    def __init__(self, revision: str = "r1") -> None:
        self.in_force = [revision]
        self.overlays: list[Overlays] = []
        self.held: list[FakePrepared] = []
        self.refused: dict[str, str] = {}
        self.slow: asyncio.Event | None = None
        self.passing: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def prepare(self, revision_id: str) -> FakePrepared:
        if self.slow is not None:
            await self.slow.wait()
        await asyncio.sleep(0)
        if revision_id in self.refused:
            raise PreparationFailed(self.refused[revision_id])
        self.held.append(FakePrepared(revision_id))
        return self.held[-1]

    def switch(self, prepared: object) -> asyncio.Future[None]:
        assert isinstance(prepared, FakePrepared) and not prepared.discarded
        self.in_force.append(prepared.revision)
        return self._over()

    def restrict(self, overlays: Overlays) -> asyncio.Future[None]:
        self.overlays.append(overlays)
        return self._over()

    def _over(self) -> asyncio.Future[None]:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.passing is None:
            over.set_result(None)
            return over
        task = asyncio.ensure_future(self._end(over, self.passing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return over

    async def _end(self, over: asyncio.Future[None], passing: asyncio.Event) -> None:
        await passing.wait()
        if not over.done():
            over.set_result(None)


class Instance:
    """One instance of the exchange: its log, its runtime and its desk, on one clock with the others."""

    def __init__(
        self,
        shared: SharedControl,
        name: str,
        clock: TurnedClock,
        *,
        epoch: int = 1,
        prepare_timeout_s: float = 60.0,
    ) -> None:
        self.log = MemoryControlLog(shared)
        self.applier = FakeApplier()
        self.accounted: list[str] = []
        self._epoch = epoch
        self.runtime = ControlRuntime(
            self.log, ControlSettings(name, f"{name}-{epoch}", LEASE_S), clock, clock.monotonic_s
        )
        self.desk = ControlDesk(
            self.runtime,
            Confirming(self.runtime, shared, self._account),
            clock,
            prepare_timeout_s=prepare_timeout_s,
        )

    async def start(self) -> None:
        """Follow, write the genesis if there is none, and join."""
        await self.runtime.follow()
        if self.desk.state.activations.number == 0:
            body = {"revision": "r1", "engine": "opa 1"}
            await self.desk.record("genesis", body)
        await self.runtime.join(self.applier, self.applier.in_force[-1], self._epoch)

    def die(self) -> None:
        """As kill -9 does: nothing is said, nothing is heard."""
        self.log.mute = self.log.deaf = True

    async def stop(self) -> None:
        """Leave, whatever came before."""
        await self.desk.close()
        await self.runtime.leave()
        await self.log.close()

    async def _account(self, member: Member) -> None:
        self.accounted.append(member.run)
