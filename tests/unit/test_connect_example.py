"""The connector that the page shows how to write works as the page says."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connectors.runtime.connector import SupervisedConnector
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.desired import DesiredStates
from connectors.runtime.exchange import SharedClient
from connectors.runtime.model import State
from tests.e2e.pages import ROOT, files
from tests.fakes.connected import FakeExchange
from tests.fakes.connecting import QUICK, SetClock, until


class OpenExchange(FakeExchange):
    """The fake as something that is opened."""

    async def __aenter__(self) -> OpenExchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


@pytest.fixture
def weather(tmp_path: Path) -> Iterator[ModuleType]:
    """The module of the page."""
    path = tmp_path / "weather.py"
    path.write_text(files((ROOT / "docs" / "connectors.md").read_text())["weather.py"])
    spec = importlib.util.spec_from_file_location("weather", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["weather"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["weather"]


def supervised(
    weather: ModuleType, directory: Path, exchange: OpenExchange, on_error: str
) -> SupervisedConnector:
    table: dict[str, Any] = {
        "plugin": "weather-source",
        "topic": "weather",
        "on_error": on_error,
        "reading": "reading.json",
        "station": "harbour",
        "classification": "green",
        "exchange": {"endpoint": "127.0.0.1:1", "token_env": "TOKEN", "insecure_plaintext": True},
    }
    settings = weather.WeatherSettings.model_validate(table, context={"directory": directory})
    definition = ConnectorDefinition("harbour", weather.PLUGIN, settings)
    make: Any = lambda: exchange  # noqa: E731
    return SupervisedConnector(
        definition,
        weather.PLUGIN.make("harbour", settings, directory / "harbour"),
        DesiredStates.read(directory),
        SharedClient(make),
        clock=SetClock(),
        pace=QUICK,
        died=lambda _: None,
    )


async def test_it_publishes_each_reading_once(
    weather: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weather, "LOOK_S", 0.001)
    exchange = OpenExchange()
    reading = tmp_path / "reading.json"
    reading.write_text('{"c": 4}')
    connector = supervised(weather, tmp_path, exchange, "fail")
    await connector.begin()
    await until(lambda: len(exchange.data) == 1)
    new = tmp_path / "new.json"
    new.write_text('{"c": 5}')
    new.replace(reading)
    await until(lambda: len(exchange.data) == 2)
    await until(lambda: connector.status().total.records == 2)
    assert connector.status().state is State.RUNNING
    assert await connector.leave()

    again = supervised(weather, tmp_path, exchange, "fail")
    await again.begin()
    await until(lambda: again.status().total.records == 1)
    assert await again.leave()
    assert exchange.data == [b'{"c": 4}', b'{"c": 5}']
    assert exchange.duplicates == 1


@pytest.mark.parametrize(
    ("on_error", "reason", "state", "skipped"),
    [
        ("skip", "LABELS_INVALID", State.RUNNING, 1),
        ("fail", "LABELS_INVALID", State.FAILED, 0),
        ("skip", "STORAGE_UNAVAILABLE", State.FAILED, 0),
    ],
)
async def test_refusals_are_treated_and_outages_lose_nothing(
    weather: ModuleType, tmp_path: Path, on_error: str, reason: str, state: State, skipped: int
) -> None:
    exchange = OpenExchange(lambda _: reason)
    (tmp_path / "reading.json").write_text("{}")
    connector = supervised(weather, tmp_path, exchange, on_error)
    await connector.begin()
    await until(lambda: exchange.calls == 1)
    await until(lambda: connector.status().total.last_success_s or connector.status().state is State.FAILED)
    shown = connector.status()
    assert (shown.state, shown.total.skipped, shown.total.records) == (state, skipped, 0)
    assert (reason in str(shown.cause)) is (state is State.FAILED)
    assert await connector.leave()


async def test_a_station_that_wrote_nothing_is_a_failure_with_a_cause(
    weather: ModuleType, tmp_path: Path
) -> None:
    connector = supervised(weather, tmp_path, OpenExchange(), "fail")
    await connector.begin()
    await until(lambda: connector.status().state is State.FAILED)
    assert str(connector.status().cause).endswith("reading.json: No such file or directory")
    leaving = await asyncio.wait_for(connector.leave(), 60)
    assert leaving
