"""Records, topics and subscriptions for the contract suites."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from broker.model.partition import partition_for
from broker.model.record import Appended, AppendResult, NewRecord, Positions, StoredRecord
from broker.model.registry import Topic
from broker.model.subscription import Subscription, SubscriptionKey
from broker.ports.record_log import RecordLog

START_MS = 1_800_000_000_000
"""The time of the first record in most tests."""


def topic(name: str = "crash-reports", *, partitions: int = 3, retention_s: int | None = None) -> Topic:
    """A topic; only its name, partitions and retention matter to a log."""
    return Topic(name, "", "exchange", frozenset(), partitions, retention_s)


def record(
    number: int,
    *,
    key: str | None = None,
    body: bytes | None = None,
    recorded_ms: int | None = None,
    of: str = "r",
) -> NewRecord:
    """Record `number` of the series `of`, whose identity and digest are those of its name and body."""
    name = f"{of}/{number}".encode()
    content = name if body is None else body
    return NewRecord(
        partition_key=name if key is None else key.encode(),
        identity=hashlib.sha256(name).digest()[:16],
        digest=hashlib.sha256(content).digest()[:16],
        body=content,
        recorded_ms=START_MS + number if recorded_ms is None else recorded_ms,
    )


def key_for(partition: int, partitions: int) -> str:
    """A partition key that leads to `partition`."""
    return next(str(n) for n in range(10_000) if partition_for(str(n).encode(), partitions) == partition)


def appended(results: Sequence[AppendResult]) -> list[Appended]:
    """The results, all of which must be Appended."""
    assert all(isinstance(result, Appended) for result in results), results
    return [result for result in results if isinstance(result, Appended)]


async def read_all(log: RecordLog, name: str, positions: Positions | None = None) -> list[StoredRecord]:
    """Everything from `positions` (default: the start) to the present end."""
    at = await log.start_positions(name) if positions is None else positions
    end = await log.end_positions(name)
    found: list[StoredRecord] = []
    while at != end:
        chunk = await log.read(name, at, max_records=500, max_bytes=1 << 20, wait_s=10)
        assert chunk.records, f"no records between {at} and {end}"
        found.extend(chunk.records)
        at = chunk.next_positions
    return found


def subscription(
    name: str = "inbox",
    *,
    agency: str = "ems",
    subject: str = "p-1",
    positions: Positions = (0, 0),
    epoch: int = 0,
) -> Subscription:
    """A subscription as it is created."""
    return Subscription(
        key=SubscriptionKey(agency, subject, name),
        topic="crash-reports",
        incarnation=b"\x07" * 16,
        purpose="emergency-response",
        positions=positions,
        epoch=epoch,
        created_ms=START_MS,
        updated_ms=START_MS,
    )
