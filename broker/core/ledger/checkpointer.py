"""Signs checkpoints of the ledger as it grows, stores them, and hands them to the witnesses.

It works beside the writer and never holds it up: what cannot be stored now is covered by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.core.ledger.clock_watch import ClockStep, ClockWatch
from broker.core.ledger.proofs import Proofs
from broker.core.ledger.rebuild import Rebuilt
from broker.core.ledger.signing import CheckpointSigner, text_of, with_signatures
from broker.core.ledger.writer import LedgerWriter
from broker.core.witness.push import WitnessPusher
from broker.errors import EntenteError, LedgerRefused, StorageUnavailable, fault_place
from broker.model.ledger import JsonValue, StoredCheckpoint
from broker.ports.clock import Clock
from broker.ports.ledger_log import LedgerLog
from broker.ports.witness import Witness, WitnessFork

log = logging.getLogger(__name__)

Record = Callable[[str, Mapping[str, JsonValue]], Awaitable[object]]
"""Writes a ledger entry of a kind with a body; raises EntenteError."""

_EXPIRE_EVERY_S = 3_600.0
_CLOSE_TIMEOUT_S = 2.0
_REMEMBERED = 16
"""Of how many checkpoints cosignatures are still taken."""


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """When a checkpoint is due: after so many seconds if the tree grew, or after so many entries. Retention in ms."""

    interval_s: float = 1.0
    entries: int = 10_000
    retention_ms: int | None = None


class Checkpointer:
    """Belongs to the event loop. `begin` before the ledger is used, then `start`; `close` makes the last checkpoint."""

    def __init__(
        self,
        ledger_log: LedgerLog,
        writer: LedgerWriter,
        rebuilt: Rebuilt,
        *,
        signer: CheckpointSigner,
        witnesses: Sequence[Witness],
        clock: Clock,
        settings: CheckpointSettings,
    ) -> None:
        self._log = ledger_log
        self._writer = writer
        self._rebuilt = rebuilt
        self._signer = signer
        self._clock = clock
        self._settings = settings
        self._watch = ClockWatch(clock)
        self._step: ClockStep | None = None
        self._proofs = Proofs(ledger_log, writer.instance, rebuilt)
        self._pusher = WitnessPusher(
            signer.origin, witnesses, prove=self._proofs.prove, cosigned=self._cosigned
        )
        self._made: dict[str, StoredCheckpoint] = {}
        self._gained: set[str] = set()
        self._latest = ""
        self._size = -1
        self._fault: str | None = None
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._expire_at_s = 0.0

    @property
    def latest_checkpoint(self) -> bytes:
        """The newest signed note that is stored, with the cosignatures that came so far."""
        made = self._made.get(self._latest)
        return b"" if made is None else made.note

    async def begin(self) -> None:
        """Make a checkpoint of the tree as it is and compare it with what the witnesses hold.

        Raises LedgerRefused if one of them holds what this ledger is not, StorageUnavailable.
        """
        self._writer.grown = self._grew
        made = self._signer.sign(self._rebuilt.tree)
        newest = self._rebuilt.newest
        if newest is not None and text_of(newest.note) == text_of(made.note):
            made = newest
        self._remember(made)
        try:
            for line in await self._pusher.check(made.note):
                log.warning("a witness could not be asked what it holds: %s", line)
        except WitnessFork as fork:
            raise LedgerRefused((f"instance {self._writer.instance}: {fork}",)) from fork
        await self._store(made, self._rebuilt.tree.size)

    def start(self, record: Record) -> None:
        """Go on in the background; call it after the entries of the start, which the next checkpoint covers."""
        self._task = asyncio.create_task(self._run(record))

    async def close(self) -> None:
        """Make the last checkpoint, and leave the witnesses some seconds to take it; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._checkpoint()
            except TimeoutError:
                log.warning("the ledger's last checkpoint was not stored in time; the next start makes it")
        await self._pusher.close()

    def _grew(self, leaves: Sequence[bytes]) -> None:
        self._proofs.extend(leaves)
        if self._writer.size - self._size >= self._settings.entries:
            self._due.set()

    async def _run(self, record: Record) -> None:
        while True:
            self._due.clear()
            try:
                await self._checkpoint()
                await self._look_at_the_clock(record)
                await self._expire()
            except Exception as error:  # noqa: BLE001 - checkpoints go on, whatever one of them met
                log.error("a checkpoint failed: %s", fault_place(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.interval_s):
                    await self._due.wait()

    async def _checkpoint(self) -> None:
        """Store the cosignatures that came, and a new checkpoint if the tree grew."""
        try:
            for text in tuple(self._gained):
                self._gained.discard(text)
                await self._log.put_checkpoint(self._made[text])
            tree = self._writer.tree
            if tree.size > self._size:
                made = self._signer.sign(tree)
                self._remember(made)
                await self._store(made, tree.size)
                self._pusher.offer(made.note)
        except StorageUnavailable as error:
            if self._fault is None:
                log.warning("the ledger's checkpoints cannot be stored now: %s", error)
            self._fault = str(error)
        else:
            if self._fault is not None:
                log.info("the ledger's checkpoints are stored again")
            self._fault = None

    async def _store(self, made: StoredCheckpoint, size: int) -> None:
        """Only what is stored is shown; what an empty tree's checkpoint says needs no place."""
        if size and made is not self._rebuilt.newest:
            await self._log.put_checkpoint(made)
        self._signer.stored(size)
        self._latest, self._size = text_of(made.note), size

    def _remember(self, made: StoredCheckpoint) -> None:
        self._made[text_of(made.note)] = made
        if len(self._made) > _REMEMBERED:
            oldest = next(iter(self._made))
            self._gained.discard(oldest)
            del self._made[oldest]

    async def _cosigned(self, note: bytes) -> None:
        """A witness's cosignature has come; it is stored with the next checkpoint."""
        text = text_of(note)
        made = self._made.get(text)
        if made is not None:
            self._made[text] = StoredCheckpoint(with_signatures(made.note, note), made.frontier)
            if made.frontier:  # an empty tree's is not stored
                self._gained.add(text)

    async def _look_at_the_clock(self, record: Record) -> None:
        """A step that cannot be written yet is written later, since nothing else in the ledger would explain it."""
        self._step = self._step or self._watch.look()
        if self._step is None:
            return
        log.warning("the wall clock was set")
        step: dict[str, JsonValue] = {
            "expected_ms": self._step.expected_ms,
            "found_ms": self._step.found_ms,
        }
        with contextlib.suppress(EntenteError):
            await record("clock_step", {"step": step})
            self._step = None

    async def _expire(self) -> None:
        """Each hour, while checkpoints are stored: they are what the tree goes on from."""
        retention_ms, now_s = self._settings.retention_ms, self._clock.monotonic_s()
        if retention_ms is None or self._fault is not None or now_s < self._expire_at_s:
            return
        self._expire_at_s = now_s + _EXPIRE_EVERY_S
        try:
            await self._log.expire(self._clock.now_ms() - retention_ms)
        except StorageUnavailable as error:
            log.warning("the ledger's retention is not enforced: %s", error)
