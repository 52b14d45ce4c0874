"""A whole broker in a process of its own, for the tests that make its parts fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.node import KafkaNode
from tests.services.broker import BrokerProcess


@pytest.fixture
def kafka_node(session_kafka_node: KafkaNode) -> KafkaNode:
    """A Kafka node that a test may stop, running again whatever the test before did; use topics of your own."""
    session_kafka_node.start()
    return session_kafka_node


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running broker on the embedded stores, or, parametrised with "kafka", on `kafka_node`."""
    on_kafka = getattr(request, "param", "embedded") == "kafka"
    kafka = request.getfixturevalue("kafka_node").bootstrap if on_kafka else None
    process = BrokerProcess(
        tmp_path / "exchange", kafka=kafka, limits=getattr(request.module, "LIMITS", None)
    )
    process.start()
    yield process
    process.stop()
