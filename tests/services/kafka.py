"""The real Kafka node behind the fixtures `kafka_bootstrap` and `kafka_node`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.kafka.node import KafkaNode
from tests.services.ports import free_port

# Retention is looked at every second, so that a test of it ends.
TEST_SETTINGS: Mapping[str, str] = {
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
}
# A node lives for seconds: Java's second compiler costs more than it saves, two CPU seconds a start.
QUICK_JAVA = ("-XX:TieredStopAtLevel=1",)


def new_node(data_dir: Path, *, heap_mb: int = 512) -> KafkaNode:
    """A node that has not been started yet, on ports of its own."""
    return KafkaNode(
        data_dir,
        port=free_port(),
        controller_port=free_port(),
        heap_mb=heap_mb,
        settings=TEST_SETTINGS,
        java_options=QUICK_JAVA,
    )


@contextmanager
def running_node(data_dir: Path, *, heap_mb: int = 512) -> Iterator[KafkaNode]:
    """A node that serves requests; raises KafkaUnavailable with the remedy if it cannot be started."""
    node = new_node(data_dir, heap_mb=heap_mb)
    try:
        node.start()
        yield node
    finally:
        node.stop()
