"""Writes a sink's dead letters to where they belong, each exactly once, and never one that was withdrawn meanwhile.

The place in the dead-letter topic is a consumer group's offset, committed in the transaction that writes the letters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from connectors.kafka.connection import Cluster
from connectors.kafka.dead_letters import decode_letter
from connectors.kafka.destinations import Destinations, NoDestination
from connectors.kafka.encoding import Outgoing
from connectors.kafka.portion import TOO_LARGE, WITHDRAWN, as_dead_letter
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.topics import ensure_topic
from connectors.kafka.transactions import TooLarge, TransactionalWriter, Unsettled
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed, Redriven
from connectors.runtime.refusals import Letter

_MOST_AT_ONCE = 500
_POLL_MS = 1_000
_ANSWER_MS = 15_000
_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class _Found:
    """A letter and where it stands."""

    letter: Letter[AgencyRecord]
    place: TopicPartition
    offset: int


class SinkRedrive:
    """One redrive. Blocks; all but `abandon` belongs to one thread."""

    def __init__(self, name: str, settings: KafkaSinkSettings, identity: str, cluster: Cluster) -> None:
        self._name = name
        self._settings = settings
        self._cluster = cluster
        self._destinations = Destinations(settings.write.topic, settings.write.reserved)
        self._group = f"{identity}.redrive"
        self._writer = self._new_writer()

    def run(self, most: int | None) -> Redriven:
        """Try what is there now, the oldest first. Raises ConnectorFailed and KafkaError; what was done stays done."""
        topic = self._settings.write.dead_letter_topic
        if topic is None:
            return Redriven()
        partitions = ensure_topic(self._cluster, topic, create=False).partitions
        consumer = self._cluster.consumer(group_id=self._group, isolation_level="read_committed")
        try:
            self._writer.open()
            places = [TopicPartition(topic, number) for number in range(partitions)]
            return self._run(consumer, places, most)
        finally:
            consumer.close(autocommit=False)
            self._writer.close()

    def abandon(self) -> None:
        """In any thread: let what blocks end soon."""
        self._writer.abandon()

    def _run(self, consumer: Any, places: Sequence[TopicPartition], most: int | None) -> Redriven:
        begins = consumer.beginning_offsets(places, timeout_ms=_ANSWER_MS)
        ends = consumer.end_offsets(places, timeout_ms=_ANSWER_MS)
        starts = {
            each: max(consumer.committed(each, timeout_ms=_ANSWER_MS) or 0, begins[each]) for each in places
        }
        # Looked for in all that is kept: a letter may have been put behind the note of its record's withdrawal.
        withdrawn = frozenset(
            each.letter.origin.get("record", "")
            for each in self._letters(consumer, begins, ends)
            if each.letter.cause == WITHDRAWN
        )
        done = Redriven()
        chunk: list[_Found] = []
        for found in self._letters(consumer, starts, ends):
            if most is not None and done.tried + len(chunk) >= most:
                break
            if found.letter.cause != WITHDRAWN and found.letter.origin.get("record") not in withdrawn:
                chunk.append(found)
            if len(chunk) == _MOST_AT_ONCE:
                done, chunk = self._written(chunk, done), []
        return self._written(chunk, done)

    def _letters(
        self, consumer: Any, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> Iterator[_Found]:
        """This connector's, partition by partition."""
        for place, start in starts.items():
            consumer.assign([place])
            consumer.seek(place, start)
            give_up_at_s = time.monotonic() + _PATIENCE_S
            while consumer.position(place) < ends[place]:
                for record in consumer.poll(timeout_ms=_POLL_MS).get(place, []):
                    give_up_at_s = time.monotonic() + _PATIENCE_S
                    read = decode_letter(AgencyRecord(record.key, record.value, tuple(record.headers)))
                    if read is not None and read.connector == self._name and record.offset < ends[place]:
                        yield _Found(read.letter, place, record.offset)
                if time.monotonic() >= give_up_at_s:
                    raise ConnectorFailed(f"topic {place.topic} cannot be read to its end; try again later")

    def _written(self, chunk: Sequence[_Found], done: Redriven) -> Redriven:
        """Write them and the offsets behind them in one transaction."""
        failed: dict[int, str] = {}
        while chunk:
            records = [self._again(each.letter, failed.get(index)) for index, each in enumerate(chunk)]
            offsets = {each.place: OffsetAndMetadata(each.offset + 1) for each in chunk}
            try:
                self._writer.write(records, offsets, self._group, alone=True)
            except TooLarge as refused:
                if refused.at & failed.keys():
                    raise ConnectorFailed(
                        "a dead letter fits its own topic no more; raise max.message.bytes"
                    ) from None
                failed.update(dict.fromkeys(refused.at, TOO_LARGE))
                self._renew()
                continue
            except Unsettled as unsettled:
                raise ConnectorFailed(f"Kafka did not take it: {unsettled.cause}; redrive again") from None
            once_more = sum(record.topic == self._settings.write.dead_letter_topic for record in records)
            return Redriven(done.tried + len(chunk), done.failed + once_more)
        return done

    def _again(self, letter: Letter[AgencyRecord], failed: str | None) -> Outgoing:
        """The record for its destination, or its dead letter once more."""
        origin = letter.origin
        try:
            if failed is None:
                return self._outgoing(letter)
        except NoDestination as refused:
            failed = f"NO_DESTINATION: {refused}"
        topic = str(self._settings.write.dead_letter_topic)
        return as_dead_letter(
            replace(letter, cause=failed, attempt=letter.attempt + 1, origin=origin), self._name, topic
        )

    def _outgoing(self, letter: Letter[AgencyRecord]) -> Outgoing:
        origin, record = letter.origin, letter.record
        topic = self._settings.write.notice_topic
        if "record" in origin:
            names = (origin.get("topic", ""), origin.get("type", ""), origin.get("source_agency", ""))
            topic = self._destinations.topic_for(*names)
        if topic is None:
            raise NoDestination("there is no topic for notices any more")
        headers = [(name, value) for name, value in record.headers if value is not None]
        place = None if record.key is not None else origin.get("record", "").encode()
        return Outgoing(topic, record.key, record.value, headers, place)

    def _renew(self) -> None:
        self._writer.close()
        self._writer = self._new_writer()
        self._writer.open()

    def _new_writer(self) -> TransactionalWriter:
        return TransactionalWriter(
            self._cluster, self._group, create_topics=self._settings.write.create_topics
        )
