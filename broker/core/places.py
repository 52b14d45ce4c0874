"""Where streams and subscriptions may begin: places, times and cursors, as offsets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from broker.core.cursor import CursorBinding, CursorCodec
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.record import LogTopic, Positions
from broker.ports.record_log import RecordLog


class Start(Enum):
    """A place to begin that is no time and no cursor."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class StartAt:
    """Where to begin: exactly one of `place`, `time_ms` and `cursor`."""

    place: Start | None = None
    time_ms: int | None = None
    cursor: bytes | None = None


class Places:
    """Turns start positions into offsets; raises EntenteError STORAGE_UNAVAILABLE."""

    def __init__(self, log: RecordLog, codec: CursorCodec) -> None:
        self._log = log
        self._codec = codec

    async def find(self, topic: LogTopic, start: StartAt, binding: CursorBinding) -> Positions:
        """The positions; raises CURSOR_INVALID for a cursor of another principal, topic or incarnation."""
        if start.cursor is not None:
            return self._codec.open(start.cursor, binding.associated_data(), topic.partitions).positions
        try:
            if start.time_ms is not None:
                return await self._log.positions_at(topic.name, start.time_ms)
            if start.place is Start.LATEST:
                return await self._log.end_positions(topic.name)
            return await self._log.start_positions(topic.name)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def within_retention(
        self, topic: str, positions: Positions, *, earliest_on_expired: bool
    ) -> Positions:
        """The positions, moved up to retention if the client chose so; else raises POSITION_EXPIRED."""
        try:
            earliest = await self._log.start_positions(topic)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        clamped = tuple(max(have, first) for have, first in zip(positions, earliest, strict=True))
        if clamped != positions and not earliest_on_expired:
            raise EntenteError(Reason.POSITION_EXPIRED)
        return clamped
