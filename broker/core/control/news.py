"""Waking everybody who waits for something to change, to look again."""

from __future__ import annotations

import asyncio
import contextlib


class News:
    """Used from one event loop. Whoever waits looks again when it is woken, and for nobody is a change in between lost."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def tell(self) -> None:
        """Wake all who wait now."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change, or after that time."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._next)
