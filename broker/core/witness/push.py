"""Hands this ledger's checkpoints to its witnesses, and finds at start whether one holds what this ledger is not.

Each witness is served by itself, so a slow one holds up neither another one nor the ledger, and of checkpoints that wait
only the newest counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.ports.witness import Witness, WitnessConflict, WitnessFork, WitnessUnavailable, WitnessUpdate

log = logging.getLogger(__name__)

Prove = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""The consistency proof from an earlier size of this ledger, above 0, to a later one (RFC 6962 §2.1.2)."""

Cosigned = Callable[[bytes], Awaitable[None]]
"""Takes a checkpoint with one witness's cosignature added."""

_CONFLICTS = 3
"""How often one checkpoint is offered anew because the witness turns out to hold another size."""


@dataclass(frozen=True, slots=True)
class WitnessStanding:
    """What is known of a witness: the size that it holds (None: not known) and, while it fails, how, in one line."""

    name: str
    held_size: int | None
    fault: str | None
    forked: bool


@dataclass(eq=False, slots=True)
class _Lane:
    witness: Witness
    held_size: int | None = None
    fault: str | None = None
    forked: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class WitnessPusher:
    """Belongs to the event loop. Call `check` before the ledger is used, then `offer` each new checkpoint."""

    def __init__(
        self,
        origin: str,
        witnesses: Sequence[Witness],
        *,
        prove: Prove,
        cosigned: Cosigned,
        first_pause_s: float = 1.0,
        longest_pause_s: float = 60.0,
    ) -> None:
        """The pauses are those after a failure; each is twice the one before. What `prove` and `cosigned` raise counts
        as a failure as well."""
        self._origin = origin
        self._lanes = [_Lane(witness) for witness in witnesses]
        self._prove = prove
        self._cosigned = cosigned
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._newest: bytes = b""

    @property
    def standings(self) -> tuple[WitnessStanding, ...]:
        """Each witness, in the configuration's order."""
        return tuple(
            WitnessStanding(lane.witness.name, lane.held_size, lane.fault, lane.forked)
            for lane in self._lanes
        )

    async def check(self, checkpoint: bytes) -> tuple[str, ...]:
        """Compare the ledger with what every witness holds; returns a line for each that could not be asked.

        checkpoint: a signed one of the whole ledger as it is, also if that is empty; it is handed over, too. Raises
        WitnessFork if a witness holds a later or another state: then the ledger must not be used.
        """
        outcomes = await asyncio.gather(
            *(self._bring(lane, checkpoint) for lane in self._lanes), return_exceptions=True
        )
        forks = [outcome for outcome in outcomes if isinstance(outcome, WitnessFork)]
        if forks:
            raise forks[0]
        failed = [outcome for outcome in outcomes if outcome is not None]
        for outcome in failed:
            if not isinstance(outcome, WitnessUnavailable):
                raise outcome
        return tuple(map(str, failed))

    def offer(self, checkpoint: bytes) -> None:
        """Hand this checkpoint over in the background; it takes the place of an earlier one that still waits."""
        self._newest = checkpoint
        for lane in self._lanes:
            lane.settled.clear()
            lane.news.set()
            if lane.task is None:
                lane.task = asyncio.create_task(self._serve(lane))

    async def close(self, grace_s: float = 5.0) -> None:
        """Leave the witnesses some time to take the newest checkpoint, then stop and close them; idempotent.

        One that fails is not waited for: it is offered what it missed after the next start.
        """
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        if tasks:
            settled = [asyncio.create_task(lane.settled.wait()) for lane in self._lanes]
            await asyncio.wait(settled, timeout=grace_s)
            for task in (*settled, *tasks):
                task.cancel()
            await asyncio.wait((*settled, *tasks))
        await asyncio.gather(*(lane.witness.close() for lane in self._lanes))

    async def _serve(self, lane: _Lane) -> None:
        pause_s = self._first_pause_s
        while True:
            await lane.news.wait()
            lane.news.clear()
            try:
                await self._bring(lane, self._newest)
            except Exception as error:  # noqa: BLE001 - whatever fails, the ledger goes on and the witness is asked again
                self._report(lane, error)
                lane.settled.set()
                if lane.forked:
                    pause_s = self._longest_pause_s
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._longest_pause_s)
                lane.news.set()
                continue
            if lane.fault is not None:
                log.info("witness %s takes checkpoints again", lane.witness.name)
            lane.fault, lane.forked, pause_s = None, False, self._first_pause_s
            if not lane.news.is_set():
                lane.settled.set()

    def _report(self, lane: _Lane, error: Exception) -> None:
        told = str(error) if isinstance(error, WitnessUnavailable | WitnessFork) else type(error).__name__
        lane.forked = isinstance(error, WitnessFork)
        if lane.forked:
            log.error("the ledger and a witness disagree: %s", told)
        elif told != lane.fault:  # a witness that stays away is told of once
            log.warning("checkpoints are not witnessed now: %s", told)
        lane.fault = told

    async def _bring(self, lane: _Lane, note: bytes) -> None:
        """Hand one checkpoint over. Raises WitnessFork, WitnessUnavailable and what `prove` and `cosigned` raise."""
        witness, size = lane.witness, unverified_checkpoint(note).size
        held = lane.held_size
        lane.held_size = None  # not known until there is an answer
        if held is None:
            held = await witness.held_size(self._origin, note)
        for _ in range(_CONFLICTS):
            if held > size:
                raise WitnessFork(
                    f"{witness.name}: holds a checkpoint of {self._origin} of size {held} while the ledger has"
                    f" {size} entries; the ledger was rolled back: restore its newest state"
                )
            proof = tuple(await self._prove(held, size)) if 0 < held < size else ()
            try:
                line = await witness.offer(WitnessUpdate(self._origin, note, held, proof))
            except WitnessConflict as conflict:
                held = conflict.held_size
                continue
            lane.held_size = size
            if line is not None:
                await self._cosigned(note + line)
            return
        raise WitnessUnavailable(f"{witness.name}: holds another size each time that it is asked")
