"""Fixtures for the services that tests use: each starts the real thing, once, and says what is missing if it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from broker.adapters.opa import OpaCompiler
from deploy.kafka.node import KafkaNode, KafkaUnavailable
from tests.services.kafka import running_node, shared_node
from tests.services.opa import OpaUnavailable, find_opa

# Time limits would be about whatever else the machine does, and an example that fails has to fail again on the next run.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _modules_parsed_once() -> Iterator[None]:
    """Each exchange that starts in this process parses the same 38 modules, by as many runs of OPA."""
    parse = OpaCompiler.parse

    @lru_cache(maxsize=200)
    def parsed(opa: Path, path: str, source: bytes) -> Mapping[str, object]:
        return parse(OpaCompiler(opa), path, source)

    def parse_once(compiler: OpaCompiler, path: str, source: bytes) -> Mapping[str, object]:
        return parsed(compiler._opa, path, source)

    with patch.object(OpaCompiler, "parse", parse_once):
        yield


@pytest.fixture(scope="session")
def kafka_bootstrap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`host:port` of one Kafka node that all tests share, side by side too; use topic and group names of your own."""
    # below the directory of all of pytest-xdist's processes, each of which has one of its own in there
    own = tmp_path_factory.getbasetemp()
    directory = (own.parent if hasattr(request.config, "workerinput") else own) / "kafka-shared"
    try:
        with shared_node(directory) as bootstrap:
            yield bootstrap
    except KafkaUnavailable as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def kafka_node(tmp_path: Path) -> Iterator[KafkaNode]:
    """A Kafka node of the test's own, running: it may be stopped, killed, paused and started again."""
    yield from _node_or_fail(tmp_path / "kafka")


@pytest.fixture(scope="module")
def module_kafka_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """As `kafka_node`, shared by the tests of one module."""
    yield from _node_or_fail(tmp_path_factory.mktemp("kafka-module"))


@pytest.fixture(scope="session")
def opa_binary() -> Path:
    """The path of the pinned OPA."""
    try:
        return find_opa()
    except OpaUnavailable as error:
        pytest.fail(str(error), pytrace=False)


def _node_or_fail(data_dir: Path) -> Iterator[KafkaNode]:
    try:
        with running_node(data_dir) as node:
            yield node
    except KafkaUnavailable as error:
        pytest.fail(str(error), pytrace=False)
