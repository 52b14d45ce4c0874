"""What a sink has taken from the exchange and not written yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from connectors.delivery import Delivery

_MOST_RECORDS = 4_000
_MOST_BYTES = 8 * 1024 * 1024


class Taken:
    """Deliveries in order. Only whole batches are given out: a cursor tells of nothing smaller."""

    def __init__(self, most_records: int = _MOST_RECORDS, most_bytes: int = _MOST_BYTES) -> None:
        """most_records, most_bytes: from which on nothing more is to be taken, once there is a whole batch."""
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._deliveries: list[Delivery] = []
        self._sealed = 0
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether nothing waits, not even a part of a batch."""
        return not self._deliveries

    @property
    def full(self) -> bool:
        """Whether a whole batch waits, and no more should be taken."""
        return self._sealed > 0 and (
            len(self._deliveries) >= self._most_records or self._bytes >= self._most_bytes
        )

    @property
    def few(self) -> bool:
        """Whether whole batches wait, and all that waits is less than half of what may be taken."""
        records, size_bytes = len(self._deliveries), self._bytes
        return self._sealed > 0 and records < self._most_records / 2 and size_bytes < self._most_bytes / 2

    @property
    def left(self) -> int:
        """How many more are to be taken; at least one."""
        return max(1, self._most_records - len(self._deliveries))

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """The next ones."""
        sealed = self._sealed
        for number, each in enumerate(deliveries, len(self._deliveries) + 1):
            self._bytes += each.size_bytes
            if each.ends_batch:
                sealed = number
        self._deliveries += deliveries
        if sealed != self._sealed:
            self._sealed = sealed
            self._changed.set()

    def all_sealed(self) -> list[Delivery]:
        """Take out all whole batches."""
        taken = self._deliveries[: self._sealed]
        del self._deliveries[: self._sealed]
        self._sealed = 0
        self._bytes = sum(each.size_bytes for each in self._deliveries)
        self._room.set()
        return taken

    async def room(self) -> None:
        """Wait while it is full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def wake(self) -> None:
        """Let `news` return."""
        self._changed.set()

    async def news(self, timeout_s: float) -> None:
        """Wait for a whole batch, for `wake`, or for that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()
