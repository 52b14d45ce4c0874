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

    async def fence(self, instance: str, epoch: int) -> None:
        """From its return on, what is appended under that epoch or an older one is void, and its writer learns so.

        It learns so before it releases. A later start of the instance, under a newer epoch, is left alone. An instance that
        never claimed a ledger needs no fence. Raises StorageUnavailable.
        """
