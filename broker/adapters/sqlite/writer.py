"""One thread that writes one database file, with group commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from broker.adapters.sqlite.failure import storage_unavailable
from broker.errors import StorageUnavailable

_GROUP_JOBS = 1_000

Work = Callable[[sqlite3.Connection], object]


@dataclass(slots=True)
class _Job:
    """One caller's changes: all or none of them, and an exception of `work` undoes only these."""

    work: Work
    future: asyncio.Future[object]
    committed: Callable[[object], None] | None
    result: object = None
    error: Exception | None = None


class Writer:
    """Runs callers' work in the order of the calls; what arrives while a commit runs goes into one transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = False
        self._thread = Thread(target=self._run, name=f"sqlite-writer-{path.name}", daemon=True)
        self._thread.start()

    async def write(self, work: Work, committed: Callable[[object], None] | None = None) -> object:
        """Run `work` in a transaction; its result, once that is durable.

        `committed` is called with the result on the event loop's thread, after the commit and before any caller goes
        on, even if this call was cancelled meanwhile. Raises what `work` raises, or StorageUnavailable; then nothing
        of it is stored.
        """
        if self._closing:
            raise StorageUnavailable(f"{self._path} is closed")
        job = _Job(work, self._loop.create_future(), committed)
        self._jobs.put(job)
        return await job.future

    async def close(self) -> None:
        """Finish what was asked for, then close the connection; idempotent."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            if group:
                self._commit(group)
                self._report(group)
        self._connection.close()

    def _next_group(self) -> tuple[list[_Job], bool]:
        """All that waits now, at least one; and whether it was the last."""
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            group.append(job)
            if len(group) == _GROUP_JOBS:
                return group, False
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[_Job]) -> None:
        """Set each job's result or error; all whose error is None are durable afterwards."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                self._attempt(job)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it was, this thread lives and no job seems stored
            self._roll_back()
            for job in group:
                job.error = job.error or storage_unavailable(error, self._path)

    def _attempt(self, job: _Job) -> None:
        """Run one job inside the group's transaction.

        Raises if SQLite rolled the whole transaction back, as it may when the disk is full.
        """
        self._connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(self._connection)
        except Exception as error:
            job.error = storage_unavailable(error, self._path) if isinstance(error, sqlite3.Error) else error
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # The next BEGIN fails too, and reports it; what was acknowledged is safe in the file.
                return

    def _report(self, group: Sequence[_Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:
            # The loop is closed, so nobody waits any more.
            return


def _resolve(group: Sequence[_Job]) -> None:
    """Tell the adapter of all that is committed, then every caller."""
    for job in group:
        if job.error is None and job.committed is not None:
            job.committed(job.result)
    for job in group:
        if job.future.cancelled():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
