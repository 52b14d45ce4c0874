"""What a Kafka cluster holds, read and changed with confluent-kafka alone, without any of the broker's code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition, admin

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """One record as it is stored."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def stored_records(bootstrap: str, topic: str) -> Iterator[KafkaRecord]:
    """All records of a topic's present, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        for partition in sorted(partitions):
            place = TopicPartition(topic, partition, OFFSET_BEGINNING)
            _, end = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
            yield from _records_of(consumer, place, end)
    finally:
        consumer.close()


def _records_of(consumer: Consumer, place: TopicPartition, end: int) -> Iterator[KafkaRecord]:
    consumer.assign([place])
    while True:
        # Its stubs say of each part of a message that it may be None.
        message: Any = consumer.poll(_TIMEOUT_S)
        assert message is not None, f"no answer from {place}"
        if message.error() is not None:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            return
        headers = tuple(message.headers() or ())
        yield KafkaRecord(place.partition, message.offset(), message.key(), message.value(), headers)
        if message.offset() + 1 >= end:
            return


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic, as an operator's tool would."""
    client = admin.AdminClient({"bootstrap.servers": bootstrap})
    client.delete_topics([topic])[topic].result(_TIMEOUT_S)


def set_topic_config(bootstrap: str, topic: str, name: str, value: str) -> None:
    """Change one setting of a topic."""
    library: Any = admin  # its typed parts do not export these names
    entry = library.ConfigEntry(name, value, incremental_operation=library.AlterConfigOpType.SET)
    resource = library.ConfigResource(library.ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    client = library.AdminClient({"bootstrap.servers": bootstrap})
    client.incremental_alter_configs([resource])[resource].result(_TIMEOUT_S)


def copy_topic(bootstrap: str, source: str, target: str, partitions: int) -> None:
    """A new topic with the records of another, each where it was: what is restored from a backup is no more."""
    library: Any = admin
    client = library.AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([library.NewTopic(target, partitions, 1)])[target].result(_TIMEOUT_S)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for record in list(stored_records(bootstrap, source)):
        producer.produce(target, record.value, record.key, record.partition)
    assert producer.flush(_TIMEOUT_S) == 0
