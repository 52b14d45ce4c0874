"""The ledger on Kafka: topic `<prefix>.ledger`, one partition, kept for good, one JSON object a record.

A position is the Kafka offset; the topic has no other records, so positions count from 0 over all writers. Entries of
one append are one Kafka batch, taken whole or not at all; appends that arrive while a batch is under way share the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import orjson
from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import KEEP_FOR_GOOD, ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import read_span
from broker.errors import StorageUnavailable
from broker.model.ledger import LedgerEntry, StoredEntry


class KafkaLedger:
    """Implements the Ledger port; belongs to the event loop that opened it."""

    def __init__(self, connection: KafkaConnection, *, append_timeout_s: float) -> None:
        self._connection = connection
        self._topic = connection.topic("ledger")
        self._append_timeout_s = append_timeout_s
        self._admin = ClusterAdmin(connection)
        self._outbox = Outbox(connection, atomic=True)

    @classmethod
    async def open(cls, connection: KafkaConnection, *, append_timeout_s: float = 10.0) -> KafkaLedger:
        """Create the topic if it is absent; raises StorageUnavailable, ValueError if it has other partitions."""
        ledger = cls(connection, append_timeout_s=append_timeout_s)
        try:
            settings = {"retention.ms": KEEP_FOR_GOOD, "retention.bytes": "-1", "cleanup.policy": "delete"}
            await ledger._admin.ensure_topic(ledger._topic, 1, settings)
            await ledger._outbox.start()
        except BaseException:
            await ledger.close()
            raise
        return ledger

    async def append(self, entries: Sequence[LedgerEntry]) -> Sequence[int]:
        """See Ledger. Raises TypeError for a body that is not JSON, ValueError beyond 15 MiB in one call.

        After StorageUnavailable the entries may still become durable: evidence of what was not released then.
        """
        if not entries:
            return []
        messages = [Message(None, _encode(entry), entry.time_ms) for entry in entries]
        give_up_at = asyncio.get_running_loop().time() + self._append_timeout_s
        try:
            async with asyncio.timeout(self._append_timeout_s):
                await self._outbox.room()
        except TimeoutError as error:
            raise StorageUnavailable("Kafka takes no ledger entries now") from error
        landed = self._outbox.enqueue(self._topic, 0, messages)
        await asyncio.wait([landed], timeout=max(0.0, give_up_at - asyncio.get_running_loop().time()))
        if not landed.done() or landed.exception() is not None or min(landed.result()) < 0:
            raise StorageUnavailable("Kafka did not confirm the ledger entries")
        return landed.result()

    async def read(self, from_position: int = 0) -> AsyncIterator[StoredEntry]:
        """See Ledger. Raises StorageUnavailable, also for an entry that cannot be read."""
        (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
        async for entry in read_span(self._connection, self._topic, from_position, end):
            yield StoredEntry(entry.offset, _decode(entry.offset, entry.value))

    async def close(self) -> None:
        """See Ledger. Ends all threads."""
        await self._outbox.close()
        await self._admin.close()


def _encode(entry: LedgerEntry) -> bytes:
    """Canonical: sorted keys, no white space."""
    content = {"body": dict(entry.body), "kind": entry.kind, "time_ms": entry.time_ms}
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def _decode(position: int, value: bytes | None) -> LedgerEntry:
    try:
        content = orjson.loads(value or b"")
        return LedgerEntry(content["kind"], content["time_ms"], content["body"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StorageUnavailable(
            f"ledger entry {position} is not readable; restore the topic from a copy"
        ) from error
