"""The control log: how the instances of one exchange agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from broker.model.control import Beat, ControlEvent, Heard


class ControlLog(Protocol):
    """Totally ordered and durable; events are kept for good, of each instance's beats at least the newest.

    Methods raise StorageUnavailable.
    """

    async def append(self, event: ControlEvent) -> int:
        """Make the event durable and return its position. After StorageUnavailable it may still come to be stored."""

    async def beat(self, beat: Beat) -> None:
        """Write a sign of life; durable on return."""

    async def follow(self, heard: Callable[[Sequence[Heard]], None], lost: Callable[[], None]) -> None:
        """Hand over all that is stored, in order, then return; from then on, what comes, as soon as it comes.

        `heard` is called in the event loop, soon after the append, with this instance's own entries among them. `lost` is
        called once if entries may be missing from what follows: then nothing may be released any more. Once only.
        """

    async def close(self) -> None:
        """Release all resources; idempotent."""


class LedgerFence(Protocol):
    """Ends the right of another instance to write its ledger."""

    async def fence(self, instance: str) -> None:
        """From its return on, whatever that instance still appends is void, and it learns so before it releases.

        Raises StorageUnavailable.
        """
