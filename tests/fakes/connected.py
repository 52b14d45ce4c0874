"""An exchange as connectors see it, in memory: what it accepted, what it refuses, and how often it cannot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

from connectors.errors import EntenteClientError
from connectors.publishing import PublishOutcome
from connectors.runtime.plugin import Connector, Gate, TaskContext
from connectors.runtime.progress import Progress
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_PATIENCE_S = 60.0
_POLL_S = 0.005

Refuse = Callable[[CloudEvent], str | None]


class FakeExchange:
    """Accepts and remembers records; `refuse` names the reason for which it does not.

    before_answer: awaited when the records are stored and the caller does not know yet.
    """

    def __init__(self, refuse: Refuse = lambda _: None, agency: str = "police") -> None:
        self.refuse = refuse
        self.agency = agency
        self.stored: dict[tuple[str, str], CloudEvent] = {}
        self.accepted: list[CloudEvent] = []
        self.calls = 0
        self.duplicates = 0
        self.fail_with: EntenteClientError | None = None
        self.before_answer: Callable[[], Awaitable[None]] | None = None

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> list[PublishOutcome]:
        """As the client's."""
        self.calls += 1
        if self.fail_with is not None:
            raise self.fail_with
        found = [self._publish(event) for event in events]
        if self.before_answer is not None:
            await self.before_answer()
        return found

    def _publish(self, event: CloudEvent) -> PublishOutcome:
        reason = self.refuse(event)
        known = self.stored.get((event.source, event.id))
        if known is not None and known != event:
            reason = "ID_REUSED"
        if reason is not None:
            return PublishOutcome(event.source, event.id, reason=reason, message="refused")
        if known is None:
            self.accepted.append(event)
        self.duplicates += known is not None
        self.stored[event.source, event.id] = event
        return PublishOutcome(event.source, event.id, position=b"p", duplicate=known is not None)

    async def who_am_i(self) -> SimpleNamespace:
        """As the client's, as far as connectors look."""
        return SimpleNamespace(agency=self.agency)

    async def can_i(self, action: str, topic: str, purpose: str = "") -> SimpleNamespace:
        """As the client's, as far as connectors look."""
        return SimpleNamespace(permitted=topic != "closed")

    @property
    def data(self) -> list[bytes]:
        """What was accepted, in order, each once."""
        return [event.binary_data for event in self.accepted]


def task_of(exchange: object, name: str = "drop") -> TaskContext:
    """A task's context on a fake."""
    return TaskContext(name, 0, exchange, Gate(), Progress())  # type: ignore[arg-type]


async def until(met: Callable[[], bool]) -> None:
    """Wait until something is so; AssertionError if it never is."""
    give_up_at_s = time.monotonic() + _PATIENCE_S
    while not met():
        assert time.monotonic() < give_up_at_s
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def running(connector: Connector, task: TaskContext) -> AsyncIterator[asyncio.Task[None]]:
    """Run one of its tasks, and stop it in order."""
    run = asyncio.create_task(connector.run(task))
    try:
        yield run
        task.gate.set(stopping=True)
        await asyncio.wait_for(run, _PATIENCE_S)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
