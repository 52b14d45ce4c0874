"""Two processes whose sinks use one subscription of one principal: one keeps it, the other says why it has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from connectors.runtime.model import State
from connectors.runtime.status import ConnectorStatus
from tests.integration.test_connect_files import MADE, connectors, exchange, kept, put
from tests.services.agency_records import entitled_among
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess

__all__ = ["exchange"]
pytestmark = [pytest.mark.opa, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

COUNT = 40


@pytest.fixture
def rivals(tmp_path: Path, exchange: BrokerProcess) -> Iterator[list[ConnectProcess]]:
    """Sinks to folders of their own; the first process has the source too."""
    (tmp_path / "outgoing").mkdir()
    with ExitStack() as stack:
        processes = []
        for name in ("one", "two"):
            (tmp_path / name / "incoming").mkdir(parents=True)
            tables = connectors(exchange, tmp_path)
            directory = str(tmp_path / name / "incoming")
            sink = tables["in"] | {"subscription": "shared", "format": "json", "directory": directory}
            del sink["segment_records"]
            chosen = {"in": sink, "out": tables["out"]} if name == "one" else {"in": sink}
            process = ConnectProcess(tmp_path / f"connect-{name}", chosen)
            stack.callback(process.stop)
            processes.append(process)
        yield processes


def has_given_up(status: ConnectorStatus) -> bool:
    lasting = status.state is State.FAILED and status.tasks[0].retry_at_s is None
    return lasting and "another program" in (status.cause or "")


async def test_the_loser_says_so_and_stays(tmp_path: Path, rivals: list[ConnectProcess]) -> None:
    for process in rivals:
        process.start()
    given_up = [asyncio.create_task(process.until("in", has_given_up)) for process in rivals]
    done, others = await asyncio.wait(given_up, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    (loser,) = (at for at, each in enumerate(given_up) if each in done)
    assert "subscription shared" in (given_up[loser].result().cause or "")
    put(tmp_path / "outgoing" / "part.jsonl", 0, COUNT)
    winner = tmp_path / ("two", "one")[loser]
    await rivals[1 - loser].until("in", lambda _: len(kept(winner)) == entitled_among(MADE, COUNT))
    still = await rivals[loser].until("in", lambda _: True)
    assert has_given_up(still)
    assert kept(tmp_path / ("one", "two")[loser]) == {}
