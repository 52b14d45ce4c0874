"""An index that is up to date when it is asked: one update at a time, shared by all who wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager

from broker.core.ledger.leaf import EntryInvalid
from broker.errors import EntenteError, LedgerRefused, Reason, StorageUnavailable
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader

log = logging.getLogger(__name__)

WAIT_S = 20.0
"""How long a caller waits for the index; an update that takes longer goes on, for those who come later."""

PAUSE_S = 0.1
"""Between the end of an update and the start of the next: callers cannot keep it busy all the time."""


class FreshIndex:
    """Opens a ledger and its index when they are first asked for, and reads on before each answer."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[tuple[LedgerReader, AuditIndex]]],
        *,
        wait_s: float = WAIT_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._opened = opened
        self._wait_s = wait_s
        self._pause_s = pause_s
        self._stack = AsyncExitStack()
        self._both: tuple[LedgerReader, AuditIndex] | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def updated(self, *, now: bool = True) -> tuple[LedgerReader, AuditIndex]:
        """The ledger, and an index that holds all that was in it when this was called; unless `now`, when it was read last.

        Raises EntenteError AUDIT_UNAVAILABLE, also if that takes too long, LEDGER_INCONSISTENT.
        """
        if not now and self._both is not None:
            return self._both
        if self._next is None:
            self._next = asyncio.create_task(self._update_after(self._running))
            self._next.add_done_callback(_retrieve)
        try:
            with reading():
                async with asyncio.timeout(self._wait_s):
                    await asyncio.shield(self._next)
        except TimeoutError:
            raise EntenteError(Reason.AUDIT_UNAVAILABLE) from None
        if self._both is None:
            raise EntenteError(Reason.AUDIT_UNAVAILABLE)
        return self._both

    async def close(self) -> None:
        """Stop an update that is under way, and close both."""
        for task in (self._next, self._running):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._both = None
        await self._stack.aclose()

    async def _update_after(self, previous: asyncio.Task[None] | None) -> None:
        """Callers who come after this one has begun to read wait for the next one."""
        if previous is not None and not previous.done():
            await asyncio.wait([previous])
            await asyncio.sleep(self._pause_s)
        self._running, self._next = self._next, None
        if self._both is None:
            self._both = await self._stack.enter_async_context(self._opened())
        reader, index = self._both
        await index.update(reader)


@contextmanager
def reading() -> Iterator[None]:
    """What a ledger or its index fails with, as the caller is told: EntenteError AUDIT_UNAVAILABLE, LEDGER_INCONSISTENT."""
    try:
        yield
    except StorageUnavailable as error:
        log.warning("the ledger cannot be read for an audit: %s", error)
        raise EntenteError(Reason.AUDIT_UNAVAILABLE) from None
    except (LedgerRefused, EntryInvalid) as error:
        log.error("the ledger is not what was read before: %s", error)
        raise EntenteError(Reason.LEDGER_INCONSISTENT) from None


def _retrieve(task: asyncio.Task[None]) -> None:
    """Those who waited have its error; where nobody waits any more, it comes again with the next update."""
    if not task.cancelled():
        task.exception()
