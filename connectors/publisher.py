"""Publishing by a program that has one record at a time: bounded, in order, in batches by size and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Self

from connectors.closing import Closing
from connectors.errors import TRANSPORT, Unavailable
from connectors.publishing import (
    BATCH_BYTES,
    BATCH_RECORDS,
    UNANSWERED_BATCHES,
    PublishOutcome,
    PublishPipe,
)
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_IDLE_S = 10.0
"""A stream that is not used any more would end with its token, and keep an instance from stopping."""


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """How a publisher gathers records.

    linger_s: how long a record waits for others to share its call, while no call is under way. max_waiting,
    max_waiting_bytes: records and bytes that may be unanswered; beyond them `send` waits. close_timeout_s: how long
    closing waits for the last answers.
    """

    linger_s: float = 0.01
    max_waiting: int = 5_000
    max_waiting_bytes: int = 16 * 1024 * 1024
    close_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Sent:
    record: CloudEvent
    size_bytes: int
    outcome: asyncio.Future[PublishOutcome]


class Publisher(Closing):
    """Publishes to one topic in the order of `send`; use as `async with`, which drains at its end.

    async with exchange.publisher("crash-reports") as publisher:
        outcome = await publisher.send(record)
        ...
        if (error := (await outcome).error()) is not None:
            raise error
    """

    def __init__(self, pipe: PublishPipe, options: PublisherOptions) -> None:
        self._pipe = pipe
        self._options = options
        self._waiting: deque[_Sent] = deque()  # not yet handed to the pipe
        self._batches: deque[list[_Sent]] = deque()  # handed to it, in order
        self._records = self._bytes = 0  # unanswered
        self._order = asyncio.Lock()  # is fair: who calls `send` first is first
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._hurried = self._closed = False
        self._error: Exception | None = None

    async def __aenter__(self) -> Self:
        if self._runner is not None or self._closed:
            raise RuntimeError("a publisher is opened once")
        self._runner = asyncio.create_task(self._run())
        return self

    async def send(self, record: CloudEvent) -> asyncio.Future[PublishOutcome]:
        """Take a record; the future tells what became of it: durable, or refused (PublishOutcome.error).

        The record must not be changed afterwards. Waits while too many are unanswered. Raises, as the futures of the
        records do that are unanswered then, EntenteClientError when publishing has failed, also after repetitions,
        and OSError for the file of receipts. It is safe to publish those records again with the same ids.
        """
        size_bytes = record.ByteSize()
        async with self._order:
            while self._records and self._is_full(size_bytes):
                self._require_open()
                self._room.clear()
                await self._room.wait()
            self._require_open()
            outcome: asyncio.Future[PublishOutcome] = asyncio.get_running_loop().create_future()
            outcome.add_done_callback(_noted)
            self._waiting.append(_Sent(record, size_bytes, outcome))
            self._records += 1
            self._bytes += size_bytes
        self._changed.set()
        return outcome

    async def flush(self) -> None:
        """Wait until all that was sent before is answered. Raises as `send`."""
        unanswered = [sent.outcome for batch in self._batches for sent in batch]
        unanswered += [sent.outcome for sent in self._waiting]
        self._hurried = True
        self._changed.set()
        if unanswered:
            await asyncio.wait(unanswered)
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Wait until everything sent is answered, and end; idempotent. Raises as `send`, and Unavailable in the end.

        What is not answered within `close_timeout_s` may or may not be stored; its futures raise Unavailable.
        """
        runner, self._runner = self._runner, None
        self._closed = True
        self._changed.set()
        self._room.set()
        if runner is None:
            return
        try:
            await asyncio.wait({runner}, timeout=self._options.close_timeout_s)
        finally:
            if not runner.done():
                runner.cancel()
                await asyncio.gather(runner, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _is_full(self, size_bytes: int) -> bool:
        options = self._options
        return self._records >= options.max_waiting or self._bytes + size_bytes > options.max_waiting_bytes

    def _require_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._runner is None:
            raise RuntimeError("records are sent inside `async with`")

    # -- what the background task does ----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with self._pipe:
                await self._work()
        except asyncio.CancelledError:
            self._fail(Unavailable(TRANSPORT, "the last records were not answered", code="DEADLINE_EXCEEDED"))
            raise
        except Exception as error:  # noqa: BLE001 - `send`, `flush` and `close` raise it
            self._fail(error)

    async def _work(self) -> None:
        """Put what is there as long as the pipe takes it, and read an answer when it does not."""
        while True:
            if not self._pipe.unanswered:
                if not await self._gather():
                    return
                await self._put()
            while self._waiting and self._pipe.unanswered < UNANSWERED_BATCHES:
                await self._put()
            self._settle(await self._pipe.answer())

    async def _gather(self) -> bool:
        """Wait for a record, and a little for more; False when there will be none."""
        while not self._waiting:
            if self._closed:
                return False
            self._hurried = False
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _IDLE_S)
            except TimeoutError:
                self._pipe.rest()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.linger_s):
                while not (self._hurried or self._closed or self._is_batch()):
                    self._changed.clear()
                    await self._changed.wait()
        return True

    def _is_batch(self) -> bool:
        full = self._is_full(0)  # nothing more can come before an answer
        return full or len(self._waiting) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES

    async def _put(self) -> None:
        batch = [self._waiting.popleft()]
        size_bytes = batch[0].size_bytes
        while self._waiting and len(batch) < BATCH_RECORDS:
            size_bytes += self._waiting[0].size_bytes
            if size_bytes > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._batches.append(batch)
        await self._pipe.put([sent.record for sent in batch])

    def _settle(self, found: list[PublishOutcome]) -> None:
        for sent, outcome in zip(self._batches.popleft(), found, strict=True):
            self._records -= 1
            self._bytes -= sent.size_bytes
            if not sent.outcome.done():  # its caller may have cancelled it
                sent.outcome.set_result(outcome)
        self._room.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        left = [sent for batch in self._batches for sent in batch] + list(self._waiting)
        self._batches.clear()
        self._waiting.clear()
        for sent in left:
            if not sent.outcome.done():
                sent.outcome.set_exception(error)
        self._room.set()


def _noted(outcome: asyncio.Future[PublishOutcome]) -> None:
    """Who does not ask for each outcome is told of a failure by `send` and `close`, not by the event loop's log too."""
    if not outcome.cancelled():
        outcome.exception()
