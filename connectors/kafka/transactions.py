"""Writing to Kafka in transactions, and knowing what became of each.

kafka-python 3.0.12 must not be relied upon for that: a batch that it gave up, or lost when it renewed its producer epoch,
does not keep its `commit_transaction` from succeeding. So each batch's future is looked at before a commit is asked for,
when nothing flies any more; and after whatever went wrong the producer is thrown away and the outcome read back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from connectors.kafka.batches import HEADER_BYTES, Flight, content_of
from connectors.kafka.connection import MAX_RECORD_BYTES, Cluster
from connectors.kafka.destinations import partition_of
from connectors.kafka.encoding import Outgoing
from connectors.kafka.topics import ensure_topic

TRANSACTION_TIMEOUT_MS = 60_000
"""After so long the cluster ends what a dead process began; until then others that share its topics read no further."""

_DELIVERY_TIMEOUT_MS = 20_000
_COMMIT_TIMEOUT_S = 15.0
_METADATA_TIMEOUT_MS = 10_000
_BATCH_BYTES = 256 * 1024
_LINGER_MS = 50
_BACKOFF_MS = 5
_LOOK_S = 0.25
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Unsettled(Exception):
    """A transaction of which only the log can tell whether it was committed: make a new writer and read back.

    cause: the kind of error that Kafka or its client told. too_large: a batch was too large for its topic; write once
    more, each record alone, to learn which it is.
    """

    def __init__(self, cause: str, *, too_large: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.too_large = too_large


class TooLarge(Exception):
    """The transaction was not committed, because of records that their topics do not take.

    at: their places among the records that were to be written.
    """

    def __init__(self, at: frozenset[int]) -> None:
        super().__init__(f"{len(at)} records are too large")
        self.at = at


class TransactionalWriter:
    """One producer with a transactional id. Blocks, so all but `abandon` belongs to one thread.

    Once a method has raised anything but ConnectorFailed for a missing topic, only `close` may follow.
    """

    def __init__(self, cluster: Cluster, transactional_id: str, *, create_topics: bool = False) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._create_topics = create_topics
        self._producer: Any = None
        self._abandoned = threading.Event()
        self._places: dict[str, list[TopicPartition]] = {}
        self._largest: dict[str, int] = {}
        self._batch_bytes = _BATCH_BYTES

    def open(self) -> None:
        """Connect; ends what an earlier process left open, and keeps it from committing anything more.

        Raises KafkaError.
        """
        self._producer = self._cluster.producer(
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            max_block_ms=_METADATA_TIMEOUT_MS,
            batch_size=_BATCH_BYTES,
            linger_ms=_LINGER_MS,
            retry_backoff_ms=_BACKOFF_MS,
        )
        # Splitting a batch loses track of its records when one of the parts is refused too.
        self._producer._sender._can_split = lambda *_: False
        self._producer.init_transactions()

    def write(
        self,
        records: Sequence[Outgoing],
        offsets: Mapping[Any, Any] | None = None,
        group: str = "",
        *,
        alone: bool = False,
    ) -> int:
        """Write all of it in one transaction, with a consumer group's offsets if given; the last record's offset.

        alone: each record in a batch of its own, so that one that is too large is told from its neighbours.
        Raises TooLarge, Unsettled, and ConnectorFailed before anything was begun if a topic is missing.
        """
        placed = [self._place(record) for record in records]
        try:
            self._producer.begin_transaction()
            offset = self._send(records, placed, alone=alone)
            if offsets:
                self._producer.send_offsets_to_transaction(offsets, group)
            self._commit()
        except (KafkaError, OSError, ValueError) as error:
            raise self._unsettled(error) from None
        return offset

    def close(self) -> None:
        """End the producer and its thread; what is open is ended by the next writer, or by the cluster."""
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        # Its own close() waits for what cannot be sent any more.
        producer._unregister_cleanup()
        producer._sender.force_close()
        producer._sender.join()
        producer._closed = True

    def abandon(self) -> None:
        """In any thread: let a blocked `write` end soon."""
        self._abandoned.set()

    def _place(self, record: Outgoing) -> TopicPartition:
        places = self._places.get(record.topic) or self._places_of(record.topic)
        if record.partition is not None:
            return places[record.partition]
        chooses = record.key if record.place is None else record.place
        return places[partition_of(chooses or b"", len(places))]

    def _places_of(self, topic: str) -> list[TopicPartition]:
        facts = ensure_topic(self._cluster, topic, create=self._create_topics)
        try:
            self._producer.partitions_for(topic)  # the producer knows it from now on
        except KafkaError as error:
            raise self._unsettled(error) from None
        self._largest[topic] = min(facts.largest_bytes or MAX_RECORD_BYTES, MAX_RECORD_BYTES)
        # No batch of several records may be larger than one of the topics takes.
        self._batch_bytes = min(self._batch_bytes, self._largest[topic])
        self._places[topic] = [TopicPartition(topic, each) for each in range(facts.partitions)]
        return self._places[topic]

    def _send(self, records: Sequence[Outgoing], placed: Sequence[TopicPartition], *, alone: bool) -> int:
        """The last record's offset."""
        contents = [content_of(record) for record in records]
        refused = frozenset(
            index
            for index, (content, place) in enumerate(zip(contents, placed, strict=True))
            if len(content) + HEADER_BYTES > self._largest[place.topic]
        )
        if refused:
            raise TooLarge(refused)
        flight = Flight(self._producer, 0 if alone else self._batch_bytes)
        for index, (content, place) in enumerate(zip(contents, placed, strict=True)):
            flight.add(index, place, content)
        flight.end()
        self._flush()
        failed = dict(flight.failures())
        too_large = frozenset(
            index for index, each in failed.items() if each.answered and isinstance(each.error, _TOO_LARGE)
        )
        if too_large and alone:
            raise TooLarge(too_large)
        for each in failed.values():
            raise each.error
        return flight.offset_of_last()

    def _flush(self) -> None:
        give_up_at_s = time.monotonic() + _DELIVERY_TIMEOUT_MS / 1000 + _COMMIT_TIMEOUT_S
        while not self._abandoned.is_set() and time.monotonic() < give_up_at_s:
            with contextlib.suppress(KafkaTimeoutError):
                self._producer.flush(timeout=_LOOK_S)
                return
        raise KafkaTimeoutError

    def _commit(self) -> None:
        """The producer's own commit waits without end while its cluster is away."""
        result = self._producer._transaction_manager.begin_commit()
        self._producer._sender.wakeup()
        give_up_at_s = time.monotonic() + _COMMIT_TIMEOUT_S
        while not result.wait(timeout_ms=_LOOK_S * 1000):
            if self._abandoned.is_set() or time.monotonic() >= give_up_at_s:
                raise KafkaTimeoutError

    def _unsettled(self, error: Exception) -> Unsettled:
        """Only the kind of the error is told: its text may quote what it was about."""
        if isinstance(error, IllegalStateError) or type(error) is KafkaError:
            error = self._producer._transaction_manager.last_error or error
        return Unsettled(type(error).__name__, too_large=isinstance(error, _TOO_LARGE))
