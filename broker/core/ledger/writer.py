"""Writes one instance's ledger: gives entries their indexes, grows the tree, and commits what arrives together at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from broker.core.ledger.leaf import SALT_BYTES, Committed, EntryInvalid, commit, open_entry
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerFenced, StorageUnavailable, fault_place
from broker.model.ledger import EncodedEntry, LedgerEntry, Place, ReadPoint, StoredEntry
from broker.ports.ledger_log import LedgerLog

log = logging.getLogger(__name__)

FLIGHT_BYTES = 1024 * 1024
FLIGHT_ENTRIES = 1_000
LARGEST_BYTES = 8 * 1024 * 1024
"""The most that one call may append, and so the largest flight."""

_CLOSE_TIMEOUT_S = 2.0


@dataclass(slots=True, eq=False)
class _Job:
    """One call's entries: all or none of them."""

    entries: Sequence[Committed]
    size: int
    landed: asyncio.Future[Sequence[Place]]


class LedgerWriter:
    """Implements the Ledger port over a log that it has claimed; belongs to one event loop.

    One flight is under way at a time, and what arrives meanwhile goes into the next. An index is used again only if its
    entry certainly is not stored: while an outcome is open, nothing else leaves.
    """

    def __init__(
        self,
        ledger_log: LedgerLog,
        instance: str,
        epoch: int,
        tree: CompactTree,
        *,
        append_timeout_s: float = 10.0,
        limit_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._log = ledger_log
        self.instance = instance
        self._epoch = epoch
        self._tree = tree
        self._append_timeout_s = append_timeout_s
        self._limit_bytes = limit_bytes
        self._jobs: deque[_Job] = deque()
        self._flying: list[_Job] = []
        self.held_bytes = 0
        """Bytes that wait or fly."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._flights: asyncio.Task[None] | None = None
        self._closed = False
        self.fenced: asyncio.Future[LedgerFenced] = asyncio.get_running_loop().create_future()
        """Done once the ledger is another writer's, or no longer what it was: this instance has to stop."""
        self.grown: Callable[[Sequence[bytes]], None] = lambda _: None
        """Called with the leaf hashes of each flight that has landed."""
        self.may_release: Callable[[], bool] = lambda: True
        """Asked before each flight: whether this instance still counts as alive, so that others have to wait for it."""

    @property
    def tree(self) -> CompactTree:
        """A copy of the tree over all that is durable."""
        return self._tree.copy()

    @property
    def size(self) -> int:
        """The number of entries that are durable."""
        return self._tree.size

    async def append(self, entries: Sequence[LedgerEntry], *, patient: bool = False) -> Sequence[Place]:
        """See Ledger; raises LedgerFenced once another instance took over, ValueError for what cannot be an entry.

        Unless `patient`, the entries may become durable after StorageUnavailable: evidence of what was not released then.
        """
        if not entries:
            return []
        committed = [commit(entry, os.urandom(SALT_BYTES)) for entry in entries]
        size = sum(entry.size for entry in committed)
        if size > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES} bytes of ledger entries at once")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._append_timeout_s
        await self._room()
        job = _Job(committed, size, loop.create_future())
        job.landed.add_done_callback(_retrieve)
        self.held_bytes += size
        self._jobs.append(job)
        if self._flights is None:
            self._flights = loop.create_task(self._fly())
        # Shielded: a caller may stop waiting, and what it accounts for is written all the same.
        try:
            async with asyncio.timeout_at(None if patient else give_up_at):
                return await asyncio.shield(job.landed)
        except TimeoutError:
            raise StorageUnavailable("the ledger has not confirmed the entries yet") from None

    async def read(self, from_index: int = 0) -> AsyncIterator[StoredEntry]:
        """See Ledger; raises StorageUnavailable, also for an entry that is not what was written."""
        async for page in self._log.read(self.instance, ReadPoint()):
            for encoded in page.entries:
                try:
                    leaf, entry = open_entry(encoded)
                except EntryInvalid as error:
                    raise StorageUnavailable(
                        f"the ledger holds an entry that is not whole: {error}"
                    ) from error
                if leaf.index >= from_index:
                    yield StoredEntry(leaf.index, entry)

    async def close(self) -> None:
        """See Ledger: waits a few seconds for what is under way, and refuses the rest."""
        self._closed = True
        flights = self._flights
        if flights is not None:
            await asyncio.wait([flights], timeout=_CLOSE_TIMEOUT_S)
            flights.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flights
        self._refuse([*self._flying, *self._jobs], StorageUnavailable("the ledger is closed"))
        self._jobs.clear()

    async def _room(self) -> None:
        """Return, in the order of the calls, when there is room; raises StorageUnavailable after the time."""
        self._check_open()
        if not self._waiting and self.held_bytes < self._limit_bytes:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._append_timeout_s):
                await turn
        except TimeoutError:
            raise StorageUnavailable("the ledger takes no entries now") from None
        finally:
            self._waiting.remove(turn)
            self._admit()
        self._check_open()

    def _check_open(self) -> None:
        if self.fenced.done():
            raise LedgerFenced(str(self.fenced.result()))
        if self._closed:
            raise StorageUnavailable("the ledger is closed")

    def _admit(self) -> None:
        """Let the first waiting caller in; it leaves the queue when it runs, so that nobody slips in before it."""
        if self._waiting and not self._waiting[0].done() and self.held_bytes < self._limit_bytes:
            self._waiting[0].set_result(None)

    async def _fly(self) -> None:
        """One flight after another until nothing waits."""
        try:
            while self._jobs:
                self._flying = self._next_flight()
                await self._send(self._flying)
                self._flying = []
        finally:
            self._flights = None

    def _next_flight(self) -> list[_Job]:
        """Take whole jobs up to one flight's size, at least one."""
        jobs: list[_Job] = []
        size = count = 0
        while self._jobs and (not jobs or (size < FLIGHT_BYTES and count < FLIGHT_ENTRIES)):
            job = self._jobs.popleft()
            size, count = size + job.size, count + len(job.entries)
            jobs.append(job)
        return jobs

    async def _send(self, jobs: Sequence[_Job]) -> None:
        """Store one flight; whatever becomes of it, every caller is told."""
        entries = [entry for job in jobs for entry in job.entries]
        begin = self._tree.size
        try:
            if not self.may_release():
                raise StorageUnavailable("this instance is cut off from the others, and releases nothing now")
            encoded = [
                entry.at(self.instance, self._epoch, index) for index, entry in enumerate(entries, begin)
            ]
            await self._log.append(encoded)
        except LedgerFenced as error:
            log.error("the ledger is no longer this instance's: %s", error)
            self._stop(jobs, error)
        except StorageUnavailable as error:
            self._refuse(jobs, error)
        except Exception as error:  # noqa: BLE001 - an outcome that nobody understands is an open one
            log.error("the ledger failed: %s", fault_place(error))
            self._stop(jobs, LedgerFenced("the ledger failed; start again"))
        else:
            self._landed(jobs, encoded)

    def _landed(self, jobs: Sequence[_Job], encoded: Sequence[EncodedEntry]) -> None:
        hashes = [leaf_hash(entry.leaf) for entry in encoded]
        places = [
            Place(self.instance, self._epoch, index, leaf)
            for index, leaf in enumerate(hashes, self._tree.size)
        ]
        self._tree.extend(hashes)
        begin = 0
        for job in jobs:
            end = begin + len(job.entries)
            self.held_bytes -= job.size
            if not job.landed.done():
                job.landed.set_result(places[begin:end])
            begin = end
        self._admit()
        self.grown(hashes)

    def stop(self, cause: LedgerFenced) -> None:
        """Release nothing any more, and refuse what waits."""
        self._stop((), cause)

    def _stop(self, jobs: Sequence[_Job], error: LedgerFenced) -> None:
        if not self.fenced.done():
            self.fenced.set_result(error)
        self._refuse([*jobs, *self._jobs], error)
        self._jobs.clear()

    def _refuse(self, jobs: Sequence[_Job], error: StorageUnavailable) -> None:
        for job in jobs:
            self.held_bytes -= job.size
            if not job.landed.done():
                job.landed.set_exception(error)
        self._admit()


def _retrieve(landed: asyncio.Future[Sequence[Place]]) -> None:
    """Callers may have stopped waiting: an outcome that nobody awaits is no programming error."""
    if not landed.cancelled():
        landed.exception()
