"""Counts how often another task has its turn on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """`count` grows by one at each turn."""

    count = 0


@asynccontextmanager
async def turns_of_others() -> AsyncIterator[Turns]:
    """Counts inside the block."""
    turns = Turns()

    async def turn() -> None:
        while True:
            await asyncio.sleep(0)
            turns.count += 1

    task = asyncio.create_task(turn())
    try:
        yield turns
    finally:
        task.cancel()
