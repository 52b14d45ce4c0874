"""The Kafka node that other tests stand on: it keeps data over a crash and refuses what it should."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from connectors.kafka.sockets import DIRECT
from deploy.kafka.node import KafkaNode, KafkaUnavailable, is_ready

pytestmark = pytest.mark.kafka


def _create(bootstrap: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, proxy_url=DIRECT)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        admin.close()


def _append(bootstrap: str, topic: str, value: bytes) -> int:
    producer = KafkaProducer(bootstrap_servers=bootstrap, proxy_url=DIRECT, acks="all")
    try:
        return int(producer.send(topic, value).get(timeout=20).offset)
    finally:
        producer.close()


def _read(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, proxy_url=DIRECT, consumer_timeout_ms=10_000)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        values = []
        while consumer.position(partition) < end:
            values.append(next(consumer).value)
        return values
    finally:
        consumer.close()


def test_what_was_acknowledged_is_there_after_a_crash(kafka_node: KafkaNode) -> None:
    _create(kafka_node.bootstrap, "kept")
    assert _append(kafka_node.bootstrap, "kept", b"first") == 0
    kafka_node.kill()
    assert not is_ready(kafka_node.port)
    kafka_node.start()
    assert _append(kafka_node.bootstrap, "kept", b"second") == 1
    assert _read(kafka_node.bootstrap, "kept") == [b"first", b"second"]


def test_a_stopped_node_has_no_process(kafka_node: KafkaNode) -> None:
    assert kafka_node.running
    kafka_node.stop()
    assert not kafka_node.running
    with pytest.raises(KafkaUnavailable, match="not running"):
        _ = kafka_node.pid


def test_the_shared_node_makes_no_topic_by_itself(kafka_bootstrap: str) -> None:
    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap, proxy_url=DIRECT)
    try:
        assert "never-created" not in consumer.topics()
        assert not consumer.partitions_for_topic("never-created")
        assert "never-created" not in consumer.topics()
    finally:
        consumer.close()
