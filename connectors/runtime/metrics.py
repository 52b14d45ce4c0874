"""Metrics in Prometheus' text form and OpenMetrics; the labels are the configuration's names and tasks' numbers only.

docs/connectors.md lists them; a test compares.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import generate_latest as as_text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.registry import Collector

from connectors.runtime.model import State
from connectors.runtime.progress import Progress
from connectors.runtime.status import ConnectorStatus

_PREFIX = "entente_connector_"
_TASK_LABELS = ("connector", "task")
_LEAVE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Reading:
    name: str
    text: str
    of: Callable[[Progress], float | None]


COUNTERS = (
    _Reading("records", "Records that have arrived for good.", lambda one: one.records),
    _Reading("bytes", "Bytes of their data.", lambda one: one.bytes),
    _Reading("failures", "Records at which a task stopped (on_error fail).", lambda one: one.failed),
    _Reading("skipped", "Records that could not be moved and were left out.", lambda one: one.skipped),
    _Reading("dead_letters", "Records that became dead letters.", lambda one: one.dead_lettered),
    _Reading("retries", "Attempts beyond the first.", lambda one: one.retries),
    _Reading("restarts", "Starts of a task after it failed.", lambda one: one.restarts),
)
GAUGES = (
    _Reading(
        "lag_records", "Records that wait at the source; not told by a sink.", lambda one: one.lag_records
    ),
    _Reading("lag_seconds", "Age of what waits; 0 when nothing does.", lambda one: one.lag_s),
    _Reading(
        "last_success_timestamp_seconds",
        "When records were last moved, or none were there, in seconds of the Unix epoch.",
        lambda one: one.last_success_s,
    ),
)


class ConnectorCollector(Collector):
    """Reads the state of all connectors whenever somebody looks. What is not known has no sample, never a zero."""

    def __init__(self, statuses: Callable[[], Iterable[ConnectorStatus]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        """All metrics of all connectors."""
        statuses = list(self._statuses())
        for reading in COUNTERS:
            yield _filled(
                CounterMetricFamily(_PREFIX + reading.name, reading.text, labels=_TASK_LABELS),
                reading,
                statuses,
            )
        for reading in GAUGES:
            yield _filled(
                GaugeMetricFamily(_PREFIX + reading.name, reading.text, labels=_TASK_LABELS),
                reading,
                statuses,
            )
        for state in State:
            yield _connectors_in(state, statuses)
            if state is not State.DEGRADED:
                yield _tasks_in(state, statuses)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, reading: _Reading, statuses: Iterable[ConnectorStatus]
) -> Metric:
    for connector in statuses:
        for task in connector.tasks:
            value = reading.of(task.progress)
            if value is not None:
                family.add_metric((connector.name, str(task.number)), value)
    return family


def _connectors_in(state: State, statuses: Iterable[ConnectorStatus]) -> Metric:
    name = f"{_PREFIX}{state.lower()}"
    family = GaugeMetricFamily(name, f"1 while the connector is {state}, else 0.", labels=("connector",))
    for connector in statuses:
        family.add_metric((connector.name,), connector.state is state)
    return family


def _tasks_in(state: State, statuses: Iterable[ConnectorStatus]) -> Metric:
    name = f"{_PREFIX}task_{state.lower()}"
    family = GaugeMetricFamily(name, f"1 while the task is {state}, else 0.", labels=_TASK_LABELS)
    for connector in statuses:
        for task in connector.tasks:
            family.add_metric((connector.name, str(task.number)), task.state is state)
    return family


def _openmetrics(registry: CollectorRegistry) -> bytes:
    text: bytes = as_openmetrics(registry)  # type: ignore[no-untyped-call] # the library has no types there
    return text


@asynccontextmanager
async def exposed(
    statuses: Callable[[], Iterable[ConnectorStatus]], address: tuple[str, int]
) -> AsyncIterator[tuple[str, int]]:
    """Serve GET /metrics at that address inside the block; yields where it listens. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(ConnectorCollector(statuses))
    ProcessCollector(registry=registry)

    async def answer(request: web.Request) -> web.Response:
        if "application/openmetrics-text" in request.headers.get("Accept", ""):
            return web.Response(body=_openmetrics(registry), headers={"Content-Type": OPENMETRICS})
        return web.Response(body=as_text(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LEAVE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()
