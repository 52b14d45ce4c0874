"""An agency's own Kafka as its other programs use it: with confluent-kafka, which shares no code with connectors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, Producer, TopicPartition, admin

from tests.services.agency_records import AgencyRecord, Arrived
from tests.services.kafka_topics import stored_records

_TIMEOUT_S = 90.0
_POLL_S = 0.2
_BATCH = 10_000
_LARGEST_BYTES = 16 << 20


def create_topics(bootstrap: str, partitions: Mapping[str, int], **config: str) -> None:
    """New topics; `config` with _ for the dots of Kafka's names."""
    library: Any = admin  # its typed parts do not export these names
    settings = {name.replace("_", "."): value for name, value in config.items()}
    client = library.AdminClient({"bootstrap.servers": bootstrap})
    new = [library.NewTopic(name, count, 1, config=settings) for name, count in partitions.items()]
    for made in client.create_topics(new).values():
        made.result(_TIMEOUT_S)


def produce(bootstrap: str, topic: str, records: Iterable[AgencyRecord]) -> None:
    """Put records into a topic, each key in one partition and in order, once each; returns when they are stored."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": _LARGEST_BYTES,
        }
    )
    for number, record in enumerate(records, 1):
        producer.produce(topic, record.value, record.key)
        if number % _BATCH == 0:
            assert producer.flush(_TIMEOUT_S) == 0
    assert producer.flush(_TIMEOUT_S) == 0


def arrived(bootstrap: str, topic: str) -> Iterator[Arrived]:
    """All committed records of a topic's present, in the order of each partition."""
    for record in stored_records(bootstrap, topic):
        yield Arrived(record.partition, record.key, record.value, dict(record.headers))


class Arrivals:
    """Counts what is committed to a topic, also while its node is down and comes back. Blocks; use it in a thread."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.count = 0
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        )
        partitions = self._consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def until(self, count: int, *, within_s: float = _TIMEOUT_S) -> None:
        """Return once so many have arrived; raises AssertionError if none does for `within_s`."""
        give_up_at = time.monotonic() + within_s
        while self.count < count:
            messages = self._consumer.consume(min(_BATCH, count - self.count), _POLL_S)
            found = sum(message.error() is None for message in messages)
            self.count += found
            if found:
                give_up_at = time.monotonic() + within_s
            assert time.monotonic() < give_up_at, f"{self.count} of {count} have arrived, and no more"


def drop_records(bootstrap: str, topic: str) -> None:
    """Delete what a topic holds now, as its retention would."""
    library: Any = admin
    client = library.AdminClient({"bootstrap.servers": bootstrap})
    partitions = client.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
    ends = [TopicPartition(topic, each, OFFSET_END) for each in partitions]
    for dropped in client.delete_records(ends).values():
        dropped.result(_TIMEOUT_S)
