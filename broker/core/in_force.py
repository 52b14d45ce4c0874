"""What is in force: one revision's rules and the overlays, replaced at once, and never under somebody's feet.

Whatever is decided, checked and released belongs to one `Order`. Its passage through the release, from the last look at
what is in force to the moment at which its ledger entry is durable, is counted. So whoever replaces the order knows when
nothing can be released under the older one any more: as soon as the passages under it have ended (design rule 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from broker.core.overlay.judge import Judge
from broker.model.overlay import Overlays

Regime = TypeVar("Regime")


class OrderReplaced(Exception):
    """What was decided is of an order that is not in force any more; decide again."""


@dataclass(frozen=True, slots=True, eq=False)
class Order(Generic[Regime]):
    """One revision's rules at work, and the restrictions over them. Equal only to itself.

    judge: looks up what the overlays restrict.
    """

    regime: Regime
    overlays: Overlays
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judge", Judge(self.overlays))


class InForce(Generic[Regime]):
    """Holds the present order; used from the event loop only."""

    def __init__(self, order: Order[Regime]) -> None:
        self._present = order
        self._passages: dict[Order[Regime], int] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def present(self) -> Order[Regime]:
        """What is in force now; look at it once, and use that one order throughout."""
        return self._present

    @contextmanager
    def passage(self, order: Order[Regime]) -> Iterator[None]:
        """Release something that was decided under `order` inside the block. Raises OrderReplaced if that is over."""
        if order is not self._present:
            raise OrderReplaced
        self._passages[order] = self._passages.get(order, 0) + 1
        try:
            yield
        finally:
            self._passages[order] -= 1
            if not self._passages[order]:
                del self._passages[order]
                self._tell()

    def replace(self, order: Order[Regime]) -> asyncio.Future[None]:
        """Put another order in force at once; the result is done when no passage under an earlier one is left."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._present = order
        self._waiting.append(over)
        self._tell()
        return over

    def _tell(self) -> None:
        """Whoever replaced an order waits until nothing passes but under the present one, never too short."""
        if any(order is not self._present for order in self._passages):
            return
        waiting, self._waiting = self._waiting, []
        for over in waiting:
            if not over.done():
                over.set_result(None)
