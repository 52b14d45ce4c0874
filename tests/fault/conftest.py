"""A whole broker in a process of its own, for the tests that make its parts fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.broker import BrokerProcess


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running broker on the embedded stores, or, parametrised with "kafka", on the session's Kafka."""
    on_kafka = getattr(request, "param", "embedded") == "kafka"
    kafka = request.getfixturevalue("kafka_bootstrap") if on_kafka else None
    process = BrokerProcess(tmp_path / "exchange", kafka=kafka)
    process.start()
    yield process
    process.stop()
