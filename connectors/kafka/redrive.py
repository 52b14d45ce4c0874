"""Tries dead letters again: reads their topic in a group of its own, publishes, and commits what was dealt with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from connectors.kafka.connection import Cluster
from connectors.kafka.dead_letters import LetterRead, decode_letter
from connectors.kafka.group import Group
from connectors.kafka.lanes import Taken
from connectors.kafka.thread import ClientThread
from connectors.kafka.treating import Refused
from connectors.mapping.mapper import Mapper
from connectors.mapping.record import AgencyRecord, Unmappable
from connectors.runtime.model import Redriven
from connectors.runtime.plugin import TaskContext
from connectors.runtime.refusals import DeadLetters

BATCH_RECORDS = 500
POLL_MS = 500
PATIENCE_S = 30.0
"""Without a record, though there are some."""


class Publishes(Protocol):
    """Publishes records in order; those that are refused."""

    async def publish(self, taken: Sequence[Taken]) -> list[Refused]: ...


@dataclass(slots=True)
class _Batch:
    """What one poll found: letters of this connector, and where each partition stands behind them."""

    letters: list[LetterRead]
    positions: dict[TopicPartition, int]


class Redrive:
    """One redrive, for one use."""

    def __init__(self, connector: str, cluster: Cluster, topic: str, group: str, mapper: Mapper) -> None:
        """group: remembers how far dead letters were tried again; not the group that reads the records."""
        self._connector = connector
        self._cluster = cluster
        self._topic = topic
        self._group = group
        self._mapper = mapper
        self._consumer: Any = None
        self._ends: dict[TopicPartition, int] = {}

    async def run(
        self, task: TaskContext, publishing: Publishes, letters: DeadLetters[AgencyRecord], most: int | None
    ) -> Redriven:
        """Until all that were there when it began are tried, or `most` of them, or the gate says stop.

        Raises as publishing does; what was tried before that is committed, and the rest is tried the next time.
        """
        thread = ClientThread(f"redrive-{self._connector}", self._cluster)
        done = Redriven()
        try:
            await thread.call(self._open)
            while not task.gate.stopping and (most is None or done.tried < most):
                room = BATCH_RECORDS if most is None else min(BATCH_RECORDS, most - done.tried)
                batch = await thread.call(self._next, room)
                if batch is None:
                    break
                refused = await publishing.publish([self._taken(each) for each in batch.letters])
                if refused:
                    await letters.put([each.letter() for each in refused])
                    task.progress.dead_lettered += len(refused)
                await thread.call(self._commit, batch.positions)
                done = Redriven(done.tried + len(batch.letters), done.failed + len(refused))
            return done
        finally:
            try:
                await thread.call(self._close)
            finally:
                thread.end()

    def _taken(self, read: LetterRead) -> Taken:
        """As it was read first, so that its id is the same."""
        record, attempt = read.letter.record, read.letter.attempt + 1
        try:
            return Taken(0, record, self._mapper.map(record), attempt=attempt)
        except Unmappable as refusal:
            return Taken(0, record, None, refusal.cause, attempt)

    # -- in the thread --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        group = Group.open(self._cluster, self._group)
        try:
            group.require_topics([self._topic])
            partitions, committed = group.partitions([self._topic]), group.committed()
        finally:
            group.close()
        self._consumer = self._cluster.consumer(
            group_id=self._group,
            client_id=f"entente-{self._connector}-redrive",
            isolation_level="read_committed",
        )
        self._consumer.assign(partitions)
        firsts = self._consumer.beginning_offsets(partitions)
        self._ends = self._consumer.end_offsets(partitions)
        for each in partitions:
            known = committed[each].offset if each in committed else 0
            # What retention has taken away cannot be tried again.
            self._consumer.seek(each, min(max(known, firsts[each]), self._ends[each]))

    def _next(self, most: int) -> _Batch | None:
        """The next letters, at least one; None when all that were there at the beginning were read."""
        batch = _Batch([], {})
        until_s = time.monotonic() + PATIENCE_S
        while not batch.letters:
            if time.monotonic() > until_s:
                raise KafkaTimeoutError
            self._consumer.pause(*(each for each in self._ends if self._reached_end(each)))
            if all(map(self._reached_end, self._ends)):
                self._commit(batch.positions)
                return None
            for partition, records in self._consumer.poll(POLL_MS, max_records=most).items():
                self._collect(batch, partition, records)
                until_s = time.monotonic() + PATIENCE_S
        return batch

    def _collect(self, batch: _Batch, partition: TopicPartition, records: Sequence[Any]) -> None:
        for each in records:
            if each.offset >= self._ends[partition]:
                break  # written since it began: perhaps by itself
            batch.positions[partition] = each.offset + 1
            at_ms = each.timestamp if each.timestamp is not None and each.timestamp >= 0 else None
            read = decode_letter(AgencyRecord(each.key, each.value, tuple(each.headers), at_ms))
            if read is not None and read.connector == self._connector:
                batch.letters.append(read)

    def _reached_end(self, partition: TopicPartition) -> bool:
        at = self._consumer.position(partition, timeout_ms=0)
        return at is not None and at >= self._ends[partition]

    def _commit(self, positions: dict[TopicPartition, int]) -> None:
        if positions:
            self._consumer.commit(
                {each: OffsetAndMetadata(offset, "", -1) for each, offset in positions.items()}
            )

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=5_000)
            except KafkaError:
                return  # all that counts is committed
