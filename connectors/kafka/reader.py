"""A member of a consumer group in a thread of its own: polls, maps, commits, and lets partitions go in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import (
    CommitFailedError,
    CorruptRecordError,
    IllegalGenerationError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from connectors.kafka.connection import Cluster
from connectors.kafka.group import Group, stamped
from connectors.kafka.lanes import Taken
from connectors.kafka.letting_go import Listener, Membership, Offsets, Owner, Tell, tell
from connectors.kafka.positions import Bounds, first_position
from connectors.kafka.source_offsets import read_topics
from connectors.kafka.source_settings import ReadSettings
from connectors.kafka.thread import ClientThread
from connectors.mapping.mapper import Mapper
from connectors.mapping.record import AgencyRecord, Unmappable
from connectors.runtime.model import ConnectorFailed

log = logging.getLogger(__name__)

POLL_RECORDS = 2_000
PARTITION_FETCH_BYTES = 2 * 1024 * 1024
METADATA_AGE_MS = 30_000
"""How long a topic that a pattern matches may stay unseen."""

IDLE_LOOKS = 3
"""After so many looks at nothing, and again each time, it is asked whether that can be."""

_CLOSE_TIMEOUT_MS = 5_000
_LEFT_BEHIND = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


@dataclass(frozen=True, slots=True)
class Sight:
    """A look at the partitions that are assigned: where the reader stands in each, and its end."""

    positions: Offsets
    ends: Offsets


class Reader:
    """One consumer. All of its methods belong to the event loop that opened it."""

    def __init__(
        self, name: str, cluster: Cluster, settings: ReadSettings, group: str, mapper: Mapper
    ) -> None:
        """name: of the client, for the cluster's logs."""
        self._name = name
        self._cluster = cluster
        self._settings = settings
        self._group_name = group
        self._mapper = mapper
        self._thread = ClientThread(name, cluster)
        self._consumer: Any = None
        self._group: Group | None = None
        self._membership = Membership()
        self._topic_ids: dict[str, str] = {}
        self._held = False
        self._idle_looks = 0

    async def open(self, owner: Owner) -> None:
        """Connect and subscribe. Raises ConnectorFailed, also if a topic that is named does not exist."""
        loop = asyncio.get_running_loop()
        await self._thread.call(self._open, partial(tell, loop), owner)

    async def poll(self, timeout_s: float, *, hold: bool) -> Mapping[TopicPartition, Sequence[Taken]]:
        """The next records, mapped. hold: take none, but stay in the group."""
        return await self._thread.call(self._poll, int(timeout_s * 1000), hold)

    async def commit(self, offsets: Offsets) -> bool:
        """Make them durable; False if the partitions belong to somebody else meanwhile. Raises ConnectorFailed."""
        return await self._thread.call(self._commit, offsets)

    async def look(self) -> Sight | None:
        """See that the topics are there and the same as before; None before the group has given out partitions.

        Raises ConnectorFailed.
        """
        return await self._thread.call(self._look)

    async def close(self) -> None:
        """Leave the group."""
        try:
            await self._thread.call(self._close)
        finally:
            self._thread.end()

    # -- in the thread --------------------------------------------------------------------------------------------

    def _open(self, told: Tell, owner: Owner) -> None:
        self._group = Group.open(self._cluster, self._group_name)
        self._group.require_topics(self._settings.topics)
        settings = self._settings
        topics = read_topics(self._group, settings)
        if settings.start == "latest":
            self._group.begin_at_end(topics)
        self._consumer = self._cluster.consumer(
            client_id=self._name,
            group_id=self._group_name,
            isolation_level=settings.isolation_level,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(3.0, settings.session_timeout_s / 5) * 1000),
            max_poll_records=POLL_RECORDS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            metadata_max_age_ms=METADATA_AGE_MS,
            # Ranges would give all of many small topics to one member.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        listener = Listener(self._consumer, self._topic_ids, self._membership, told, owner)
        pattern = settings.whole_pattern()
        if pattern is None:
            self._consumer.subscribe(topics=list(settings.topics), listener=listener)
        else:
            self._consumer.subscribe(pattern=pattern, listener=listener)
        # A group that is divided before the topics are known gives nobody anything, until metadata are old: a request
        # for them that meets another one under way is forgotten. To ask for an end takes metadata, and is bounded.
        known = self._group.partitions(topics)
        if known:
            self._consumer.end_offsets(known)

    def _poll(self, timeout_ms: int, hold: bool) -> dict[TopicPartition, list[Taken]]:
        if hold != self._held:
            known = self._consumer.assignment() - self._membership.fresh
            (self._consumer.pause if hold else self._consumer.resume)(*known)
            self._held = hold
        # kafka-python 3.0.12 forgets a join that outlasts its poll if new metadata were its cause: it would never take up
        # what it was given, nor send heartbeats, and find nothing for ever.
        if self._consumer._coordinator.rejoining:
            self._consumer._coordinator.request_rejoin()
        found: Mapping[TopicPartition, Sequence[Any]] = {}
        try:
            found = self._consumer.poll(timeout_ms)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            self._membership.fresh.update(error.args[0])
            self._consumer.pause(*error.args[0])
        except (CorruptRecordError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        if self._membership.fresh:
            self._begin()
        return {partition: self._mapped(partition, records) for partition, records in found.items()}

    def _begin(self) -> None:
        """Find the place of each partition that was assigned, before anything of it is taken."""
        group = self._opened_group()
        fresh = sorted(self._membership.fresh & self._consumer.assignment())
        if fresh:
            committed = group.committed()
            ids = group.topic_ids({each.topic for each in fresh})
            firsts, ends = self._consumer.beginning_offsets(fresh), self._consumer.end_offsets(fresh)
            chosen = {
                each: first_position(
                    f"{each.topic}, partition {each.partition}",
                    committed.get(each),
                    ids[each.topic],
                    Bounds(firsts[each], ends[each]),
                    on_out_of_range=self._settings.on_out_of_range,
                )
                for each in fresh
            }
            self._topic_ids.update(ids)
            for partition, offset in chosen.items():
                self._consumer.seek(partition, offset)
            if not self._held:
                self._consumer.resume(*fresh)
        self._membership.fresh.clear()

    def _mapped(self, partition: TopicPartition, records: Sequence[Any]) -> list[Taken]:
        cluster, topic = self._opened_group().cluster_id, partition.topic
        number, incarnation, mapped = str(partition.partition), self._topic_ids[topic], self._mapper.map
        if str(self._consumer._cluster.topic_id(topic) or incarnation) != incarnation:
            self._require_topics()  # made anew between two polls: these are not the records that come next
        taken = []
        for each in records:
            origin = {"cluster": cluster, "topic": topic, "partition": number, "offset": str(each.offset)}
            at_ms = each.timestamp if each.timestamp is not None and each.timestamp >= 0 else None
            record = AgencyRecord(each.key, each.value, each.headers, at_ms, origin, incarnation)
            try:
                taken.append(Taken(each.offset, record, mapped(record)))
            except Unmappable as refusal:
                taken.append(Taken(each.offset, record, None, refusal.cause))
        return taken

    def _unreadable(self, error: Exception) -> ConnectorFailed:
        """Of a record that kafka-python cannot read at all, which is therefore in nobody's hand to be skipped or kept."""
        records = self._consumer._fetcher._next_partition_records
        where = "a record"
        if records is not None:
            at = records.topic_partition
            where = f"{at.topic}, partition {at.partition}: the record at offset {records.next_fetch_offset}"
        return ConnectorFailed(
            f"{where} cannot be read ({type(error).__name__}): its checksum is wrong, or a header's name is no UTF-8;"
            ' if that stays so, pass over it with "offsets alter"'
        )

    def _commit(self, offsets: Offsets) -> bool:
        if not offsets:
            return True
        try:
            self._consumer.commit(stamped(offsets, self._topic_ids))
        except _LEFT_BEHIND as error:
            log.info("%s: %s; those records come again", self._name, type(error).__name__)
            return False
        except KafkaError:
            self._require_topics()  # a topic that is gone is told as such
            raise
        return True

    def _look(self) -> Sight | None:
        self._require_topics()
        if not self._membership.joined:
            return None
        self._require_share()
        assigned = self._consumer.assignment() - self._membership.fresh
        ends = self._consumer.end_offsets(sorted(assigned)) if assigned else {}
        positions = {each: self._consumer.position(each, timeout_ms=0) for each in assigned}
        return Sight({each: at for each, at in positions.items() if at is not None}, ends)

    def _require_topics(self) -> None:
        topics = {*self._settings.topics, *(each.topic for each in self._consumer.assignment())}
        self._opened_group().require_topics(topics, self._topic_ids)

    def _require_share(self) -> None:
        """A task that is given nothing for long, though there is enough, would else look as if all was read."""
        idle = not self._consumer.assignment() and not self._consumer._coordinator.rejoining
        self._idle_looks = self._idle_looks + 1 if idle else 0
        if self._idle_looks % IDLE_LOOKS or not idle:
            return
        group = self._opened_group()
        there, members = len(group.partitions(read_topics(group, self._settings))), group.members()
        if there and there >= members:
            raise ConnectorFailed(
                f"consumer group {group.name} gives this task nothing, with {there} partitions for {members} members;"
                " joining it again"
            )

    def _close(self) -> None:
        consumer, group = self._consumer, self._group
        self._consumer = self._group = None
        try:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)
        finally:
            if group is not None:
                group.close()

    def _opened_group(self) -> Group:
        if self._group is None:
            raise RuntimeError("the reader is not open")
        return self._group
