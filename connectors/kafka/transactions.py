"""Writing to Kafka in transactions, and knowing what became of each.

kafka-python 3.0.12 must not be relied upon for that: a batch that it gave up, or lost when it renewed its producer epoch,
does not keep its `commit_transaction` from succeeding. So each record's future is looked at before a commit is asked for,
when nothing flies any more; and after whatever went wrong the producer is thrown away and the outcome read back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

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
_SMALL_BYTES = 16 * 1024
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
            self._producer._accumulator.config["batch_size"] = 0 if alone else self._batch_bytes
            sent = self._send(records, placed, alone=alone)
            if offsets:
                self._producer.send_offsets_to_transaction(offsets, group)
            self._commit()
        except (KafkaError, OSError, ValueError) as error:
            raise self._unsettled(error) from None
        return int(sent[-1].value.offset) if sent else -1

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
        self._largest[topic] = facts.largest_bytes or MAX_RECORD_BYTES
        # No batch of several records may be larger than one of the topics takes.
        self._batch_bytes = min(self._batch_bytes, self._largest[topic])
        self._places[topic] = [TopicPartition(topic, each) for each in range(facts.partitions)]
        return self._places[topic]

    def _send(
        self, records: Sequence[Outgoing], placed: Sequence[TopicPartition], *, alone: bool
    ) -> list[Any]:
        appends: dict[TopicPartition, Callable[[Outgoing], Any]] = {}
        sent: list[Any] = []
        refused: set[int] = set()
        for index, (record, place) in enumerate(zip(records, placed, strict=True)):
            append = appends.get(place)
            if append is None:
                append = appends[place] = self._appending(place)
            try:
                sent.append(append(record))
            except MessageSizeTooLargeError:
                refused.add(index)
        if refused:
            raise TooLarge(frozenset(refused))
        self._flush()
        failed = {index: each.exception for index, each in enumerate(sent) if not each.succeeded()}
        too_large = frozenset(
            index
            for index, error in failed.items()
            if isinstance(error, _TOO_LARGE) and _answered(sent[index])
        )
        if too_large and alone:
            raise TooLarge(too_large)
        if failed:
            raise next(iter(failed.values())) or KafkaTimeoutError()
        return sent

    def _appending(self, place: TopicPartition) -> Callable[[Outgoing], Any]:
        """What `send` does, with what is the same for a whole partition done once: that is half of its time."""
        producer = self._producer
        # As `send` does it, and before the partition's first record.
        producer._transaction_manager.maybe_add_partition_to_transaction(place)
        append, wakeup = producer._accumulator.append, producer._sender.wakeup
        topic, partition = place

        def appended(record: Outgoing) -> Any:
            if (size_bytes := len(record.value or b"")) > _SMALL_BYTES:
                if size_bytes > self._largest[topic]:
                    raise MessageSizeTooLargeError
                return producer.send(topic, record.value, record.key, record.headers, partition)
            future, full, _, _ = append(place, None, record.key, record.value, record.headers)
            if full:
                wakeup()
            return future

        return appended

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


def _answered(future: Any) -> bool:
    """Whether the cluster refused it: what was given up on account of another has the same error, and the offset -1."""
    offset, _, _ = future._produce_future.value
    return offset is None
