"""The ledger's log on Kafka, as its writer sees it.

An instance owns the partition whose first record is its claim; a new one claims the first that was never used. It alone
writes there, so an append that is confirmed at another offset than the expected one has something in front of it: a newer
claim, which ends this writer, or void entries of an older one. That look is all that fencing costs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from broker.adapters.kafka.admin import KEEP_FOR_GOOD
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.flight import SendFailed
from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
from broker.adapters.kafka.ledger_records import (
    Claim,
    checkpoint_message,
    claim_message,
    entry_message,
    read_claim,
)
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import Entry, read_span
from broker.errors import LedgerFenced, StorageUnavailable
from broker.model.ledger import EncodedEntry, StoredCheckpoint

log = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 30.0
_LOOK_AGAIN_S = 0.5


class KafkaLedgerLog(KafkaLedgerReader):
    """Implements the LedgerLog port; belongs to the event loop that opened it."""

    def __init__(self, connection: KafkaConnection, instance: str) -> None:
        super().__init__(connection)
        self._instance = instance
        self._outbox = Outbox(connection, atomic=True)
        self._checkpoint_outbox = Outbox(connection)
        self._partition: int | None = None
        self._claim: Claim | None = None
        self._expected = 0
        self._retention_ms: int | None = None
        self._newest_ms = 0
        self._closing = False

    @classmethod
    async def open(
        cls,
        connection: KafkaConnection,
        instance: str = "broker",
        *,
        partitions: int = 16,
        retention_ms: int | None = None,
    ) -> KafkaLedgerLog:
        """Create the topics if they are absent; an existing one keeps its partitions. Raises StorageUnavailable."""
        opened = cls(connection, instance)
        opened._retention_ms = retention_ms
        try:
            await opened._ensure_topics(partitions)
            await opened._outbox.start()
            await opened._checkpoint_outbox.start()
        except BaseException:
            await opened.close()
            raise
        return opened

    async def claim(self) -> int:
        """See LedgerLog. Raises StorageUnavailable too if no partition is left."""
        # In this order: else one of the same name that claims in between would leave the name with two partitions.
        _, ends = await self._bounds()
        own = (await self._owners()).get(self._instance)
        unused = [number for number, end in enumerate(ends) if end == 0]
        for partition in unused if own is None else [own]:
            claimed = await self._claim_in(partition, ends[partition])
            if claimed is not None:
                self._partition, self._claim = partition, claimed
                return claimed.epoch
        raise StorageUnavailable(
            f"the topic '{self._topic}' has no unused partition for the instance '{self._instance}';"
            " add partitions to it, or use the name of an instance that is gone"
        )

    async def fence(self, instance: str, epoch: int) -> None:
        """See LedgerFence: a claim with the next epoch, which no writer of this epoch can overlook."""
        partition = (await self._owners()).get(instance)
        if partition is not None:
            await self._send(partition, claim_message(instance, Claim(epoch + 1, os.urandom(16).hex())))

    async def append(self, entries: Sequence[EncodedEntry]) -> None:
        """See LedgerLog. Raises ValueError beyond 15 MiB in one call."""
        if self._partition is None:
            raise RuntimeError("claim() comes before append()")
        messages = [entry_message(self._instance, entry) for entry in entries]
        landed = self._outbox.enqueue(self._topic, self._partition, messages)
        try:
            offsets = await asyncio.shield(landed)
        except SendFailed as error:
            if error.stored is False or self._closing:
                raise StorageUnavailable("Kafka did not take the ledger entries") from error
            # Whoever claims next finds out what became of them; to go on here might use their indexes twice.
            raise LedgerFenced(
                f"whether Kafka stored ledger entries is unknown ({error}); start again"
            ) from error
        if offsets[0] != self._expected:
            offsets = await self._confirm(messages, offsets[0])
        self._expected = offsets[-1] + 1
        self._newest_ms = messages[-1].timestamp_ms or 0

    async def put_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """See LedgerLog."""
        message = checkpoint_message(self._instance, checkpoint)
        landed = self._checkpoint_outbox.enqueue(self._checkpoints, 0, [message])
        await asyncio.wait([landed], timeout=_SEND_TIMEOUT_S)
        if not landed.done() or landed.exception() is not None:
            raise StorageUnavailable("Kafka did not confirm the ledger's checkpoint")

    async def expire(self, before_ms: int) -> None:
        """See LedgerLog: Kafka does so by itself (`retention.ms`).

        Of a partition that holds nothing any more nobody knows whose it is. So the claim is written again when nothing
        else was for half that time; the next append finds it in front of itself.
        """
        if self._partition is None or self._claim is None or self._retention_ms is None:
            return
        if self._newest_ms < before_ms + self._retention_ms // 2:
            await self._send(self._partition, claim_message(self._instance, self._claim))
            self._newest_ms = before_ms + self._retention_ms

    async def close(self) -> None:
        """See LedgerReader. Ends all threads."""
        self._closing = True
        await asyncio.gather(self._outbox.close(), self._checkpoint_outbox.close())
        await super().close()

    async def _ensure_topics(self, partitions: int) -> None:
        present = await self._admin.find_topic(self._topic)
        retention = KEEP_FOR_GOOD if self._retention_ms is None else str(self._retention_ms)
        kept = {"retention.bytes": "-1", "cleanup.policy": "delete"}
        count = partitions if present is None else present.partitions
        await self._admin.ensure_topic(self._topic, count, {**kept, "retention.ms": retention})
        await self._admin.ensure_topic(self._checkpoints, 1, {**kept, "retention.ms": KEEP_FOR_GOOD})

    async def _claim_in(self, partition: int, end: int) -> Claim | None:
        """Claim a partition that ended there; None if it was unused and another instance came first.

        The epoch is one more than the end, and so larger than each older one, without a look at them.
        """
        unused = end == 0
        while True:
            claim = Claim(end + 1, os.urandom(16).hex())
            offset = await self._send(partition, claim_message(self._instance, claim))
            between = [
                record async for record in read_span(self._connection, self._topic, end, offset, partition)
            ]
            if unused and between and between[0].key != self._instance.encode():
                return None
            rivals = [self._claim_of(record) for record in between]
            if not any(rival is not None and rival.epoch >= claim.epoch for rival in rivals):
                self._expected = offset + 1
                return claim
            end = offset + 1

    async def _send(self, partition: int, message: Message) -> int:
        """Store one record and return its offset."""
        landed = self._outbox.enqueue(self._topic, partition, [message])
        await asyncio.wait([landed], timeout=_SEND_TIMEOUT_S)
        if not landed.done() or landed.exception() is not None or landed.result()[0] < 0:
            raise StorageUnavailable("Kafka did not confirm a claim of the ledger; try again")
        return landed.result()[0]

    def _claim_of(self, record: Entry) -> Claim | None:
        return read_claim(record.value) if record.key == self._instance.encode() else None

    async def _confirm(self, messages: Sequence[Message], offset: int) -> list[int]:
        """The offsets of a flight that landed elsewhere than expected, or whose place Kafka no longer tells (-1).

        Waits until what stands in front of it can be read. Raises LedgerFenced.
        """
        if 0 <= offset < self._expected:
            raise LedgerFenced(f"the topic '{self._topic}' has lost entries; restore it from a copy")
        while True:
            try:
                first = await self._look(messages[0], offset)
                return list(range(first, first + len(messages)))
            except LedgerFenced:
                raise
            except StorageUnavailable as error:
                log.warning("what stands before new ledger entries cannot be read yet: %s", error)
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _look(self, message: Message, offset: int) -> int:
        """Read from the expected offset on to where the flight is."""
        if self._partition is None or self._claim is None:
            raise RuntimeError("claim() comes before append()")
        end = offset if offset >= 0 else (await self._bounds())[1][self._partition]
        async for record in read_span(self._connection, self._topic, self._expected, end, self._partition):
            claim = self._claim_of(record)
            if claim is not None and claim.epoch > self._claim.epoch:
                raise LedgerFenced(
                    f"another broker has taken over the ledger '{self._instance}', and this one stops;"
                    " give each a ledger.instance of its own"
                )
            if offset < 0 and record.value == message.value:
                return record.offset
        if offset < 0:
            raise LedgerFenced(f"entries that Kafka confirmed are not in '{self._topic}'; start again")
        return offset
