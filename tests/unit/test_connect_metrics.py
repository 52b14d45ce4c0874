"""What Prometheus reads of connectors: two forms, labels that the configuration bounds, no zero for what is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from connectors.runtime.metrics import ConnectorCollector, exposed
from connectors.runtime.model import ConnectorFailed, State
from tests.fakes.connecting import Rig, begun, rig, until

CANARY = "canary-4d20"
Samples = dict[tuple[str, str | None, str | None], float]


def samples(families: Iterable[Metric]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            assert set(sample.labels) <= {"connector", "task"}
            found[sample.name, sample.labels.get("connector"), sample.labels.get("task")] = sample.value
    return found


async def scraped(one: Rig, accept: str) -> tuple[str, str]:
    async with (
        exposed(lambda: [one.supervised.status()], ("127.0.0.1", 0)) as (host, port),
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/metrics", headers={"Accept": accept}) as answer,
    ):
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.text()


def moved(one: Rig) -> None:
    progress = one.connector.attempt(0).task.progress
    progress.moved(3, 300)
    progress.failed, progress.skipped, progress.dead_lettered, progress.retries = 1, 2, 4, 5
    progress.lag_records, progress.lag_s = 7, 1.5


@pytest.mark.parametrize(
    ("accept", "kind", "read"),
    [
        ("text/plain; version=nonsense, */*", "text/plain", read_text),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", read_openmetrics),
    ],
)
async def test_both_forms_are_read_by_the_public_parser(
    tmp_path: Path, accept: str, kind: str, read: object
) -> None:
    async with begun(rig(tmp_path, tasks=2)) as one:
        await until(lambda: one.connector.inside == [1, 1])
        moved(one)
        content_type, text = await scraped(one, accept)
        assert content_type.startswith(kind)
        found = samples(read(text))  # type: ignore[operator]
        prefix = "entente_connector_"
        assert {
            name.removeprefix(prefix): value
            for (name, _, task), value in found.items()
            if task == "0" and name.startswith(prefix) and not name.startswith(f"{prefix}task_")
        } | {"last_success_timestamp_seconds": 0} == {
            "records_total": 3,
            "bytes_total": 300,
            "failures_total": 1,
            "skipped_total": 2,
            "dead_letters_total": 4,
            "retries_total": 5,
            "restarts_total": 0,
            "lag_records": 7,
            "lag_seconds": 1.5,
            "last_success_timestamp_seconds": 0,
        }
        assert found[f"{prefix}last_success_timestamp_seconds", "crashes", "0"] > 1.6e9
        assert found[f"{prefix}records_total", "crashes", "1"] == 0
        for unknown in ("lag_records", "lag_seconds", "last_success_timestamp_seconds"):
            assert (prefix + unknown, "crashes", "1") not in found
        assert found["process_cpu_seconds_total", None, None] > 0


async def test_each_state_is_a_gauge_and_exactly_one_is_set(tmp_path: Path) -> None:
    async with begun(rig(tmp_path, tasks=2)) as one:
        await until(lambda: one.connector.inside == [1, 1])
        one.connector.attempt(1).fail(ConnectorFailed(CANARY))
        await until(lambda: one.supervised.status().state is State.DEGRADED)
        _, text = await scraped(one, "")
        found = samples(read_text(text))
        assert {
            ("entente_connector_degraded", "crashes", None),
            ("entente_connector_task_running", "crashes", "0"),
            ("entente_connector_task_failed", "crashes", "1"),
        } == {
            key
            for key, value in found.items()
            if value == 1 and key[0].rsplit("_", 1)[1].upper() in State.__members__
        }
        assert found["entente_connector_running", "crashes", None] == 0
    assert CANARY not in text


async def test_nothing_else_is_served(tmp_path: Path) -> None:
    async with exposed(list, ("127.0.0.1", 0)) as (host, port), aiohttp.ClientSession() as session:
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/connectors", 404),
            ("POST", "/metrics", 405),
        ):
            async with session.request(method, f"http://{host}:{port}{path}") as answer:
                assert answer.status == status


def test_the_page_lists_the_metrics_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
    listed = set(re.findall(r"^\| `(entente_connector_\w+)` ", page, re.MULTILINE))
    there = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in ConnectorCollector(list).collect()
    }
    by_state = {name for name in there if name.rsplit("_", 1)[1].upper() in State.__members__}
    assert listed == there - by_state
    for state in State:
        assert f"`{state}`" in page
