"""The record log: where acknowledged records live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.model.record import AppendResult, Chunk, LogTopic, NewRecord, Positions
from broker.model.registry import Topic


class RecordLog(Protocol):
    """An append-only log of topics with partitions.

    Every method raises StorageUnavailable when the store cannot answer, and KeyError never: the caller opened the topic.
    """

    async def open_topic(self, topic: Topic) -> LogTopic:
        """Create the topic if it is absent, and make it usable.

        Partition counts are immutable: raises ValueError if the log holds another count. Idempotent.
        """

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        """Append in order; all that is reported as Appended is durable when this returns (design rule 9).

        A record whose identity is known is not stored again: Appended(duplicate=True) with its first place if the digest
        is equal, else IdReused; the same within one call. Order per partition is the order of the calls and of `records`.
        Raises StorageUnavailable when nothing is known of the outcome; repeating the call is then harmless.
        """

    async def read(
        self, topic: str, positions: Positions, *, max_records: int, max_bytes: int, wait_s: float
    ) -> Chunk:
        """Records from `positions` on, from any partitions, at least one if there is one (even one over max_bytes).

        Waits up to `wait_s` seconds (0: not at all) for the first to arrive, else returns an empty chunk.
        Raises PositionExpired if a position lies before retention. `max_bytes` counts body bytes.
        """

    async def start_positions(self, topic: str) -> Positions:
        """The earliest retained offset of each partition."""

    async def end_positions(self, topic: str) -> Positions:
        """The offset after the last durable record of each partition."""

    async def positions_at(self, topic: str, time_ms: int) -> Positions:
        """For each partition the first offset whose recorded_ms is at or after `time_ms`, else its end."""

    async def close(self) -> None:
        """Release all resources; idempotent."""
