"""The real Kafka node behind the fixtures `kafka_bootstrap` and `kafka_node`."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from deploy.kafka.node import KafkaNode, stop
from tests.services.ports import free_port

# Retention is looked at every second, so that a test of it ends.
TEST_SETTINGS: Mapping[str, str] = {
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
}
# A node lives for seconds: Java's second compiler costs more than it saves, two CPU seconds a start.
QUICK_JAVA = ("-XX:TieredStopAtLevel=1",)
# Who started the shared node may end before it does; Python warns of a forgotten process that still runs.
_STARTED: list[KafkaNode] = []


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


@contextmanager
def shared_node(directory: Path) -> Iterator[str]:
    """`host:port` of the one node of all processes that name this directory: the first starts it, the last stops it."""
    directory.mkdir(exist_ok=True)
    address, users = directory / "bootstrap", directory / "users"
    with _alone(directory):
        count = int(users.read_text()) if users.exists() else 0
        if not count:
            node = new_node(Path(mkdtemp(dir=directory)))
            node.start()
            _STARTED.append(node)
            (directory / "kafka.pid").write_text(str(node.pid))
            address.write_text(node.bootstrap)
        users.write_text(str(count + 1))
    try:
        yield address.read_text()
    finally:
        with _alone(directory):
            count = int(users.read_text()) - 1
            users.write_text(str(count))
            if not count:
                stop(directory / "kafka.pid")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
