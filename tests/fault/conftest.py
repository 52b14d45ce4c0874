"""A whole broker in a process of its own, for the tests that make its parts fail."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.app.initialise import DEFAULT_RULEBOOK
from deploy.kafka.node import KafkaNode
from tests.services.broker import BrokerProcess
from tests.services.course import Course, prepare


@pytest.fixture
def kafka_node(module_kafka_node: KafkaNode) -> KafkaNode:
    """A Kafka node that a test may stop, running again whatever the test before did; use topics of your own."""
    module_kafka_node.start()
    return module_kafka_node


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


@pytest.fixture
def course(
    request: pytest.FixtureRequest, kafka_bootstrap: str, kafka_node: KafkaNode, tmp_path: Path
) -> Iterator[Course]:
    """Between two clusters, over a running exchange on the embedded stores; `kafka_node` is the receiving agency's.

    Its rulebook is the default one without the cases, so that an agreement can be ended alone.
    """
    rulebook = tmp_path / "rulebook"
    shutil.copytree(DEFAULT_RULEBOOK, rulebook, ignore=shutil.ignore_patterns("*.py", "__pycache__", "cases"))
    limits = getattr(request, "param", None) or getattr(request.module, "LIMITS", None)
    broker = BrokerProcess(tmp_path / "exchange", limits=limits, rulebook=rulebook)
    broker.start()
    made = prepare(broker, tmp_path, kafka_bootstrap, kafka_node.bootstrap)
    yield made
    made.kill()
    kafka_node.start()
    broker.stop()
