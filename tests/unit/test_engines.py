"""Engines are started once for each revision, shared, held ready where somebody may want them, and stopped after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.adapters.opa.child import OpaStartFailed
from broker.app import engines as module
from broker.app.engines import Engines, Loaded
from broker.app.rulebook import RulebookDoor
from broker.errors import RulebookRefused

PATIENCE_S = 60


class Opa:
    """In place of OpaEngine and the door: what was read, started and stopped. slow: starts last until this is set."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.failing: set[str] = set()
        self.refused: set[str] = set()
        self.large: set[str] = set()
        self.slow: asyncio.Event | None = None
        self.changed = asyncio.Event()

    async def stored(self, revision_id: str) -> Any:
        self.read.append(revision_id)
        self.changed.set()
        if revision_id in self.refused:
            raise RulebookRefused(("data/x: wrong",))
        size = 2 * 1024 * 1024 if revision_id in self.large else 10
        return SimpleNamespace(revision=SimpleNamespace(id=revision_id, files={"data/x": bytes(size)}))

    async def start(self, opa: Path, revision: Any) -> Any:
        self.started.append(revision.id)
        self.changed.set()
        try:
            if self.slow is not None:
                await self.slow.wait()
            if revision.id in self.failing:
                raise OpaStartFailed("OPA did not start")
        except BaseException:
            self._stop(revision.id)
            raise

        async def close() -> None:
            self._stop(revision.id)

        return SimpleNamespace(revision=revision.id, close=close)

    def _stop(self, revision_id: str) -> None:
        self.stopped.append(revision_id)
        self.changed.set()

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def opa(monkeypatch: pytest.MonkeyPatch) -> Opa:
    made = Opa()
    monkeypatch.setattr(module, "OpaEngine", made)
    return made


@pytest.fixture
async def engines(opa: Opa) -> AsyncIterator[Engines]:
    made = Engines(Path("opa"), cast(RulebookDoor, opa), ready_mb=1)
    yield made
    await made.close()
    assert sorted(opa.started) == sorted(opa.stopped)


async def held(engines: Engines, opa: Opa, *wanted: str) -> None:
    """Until what is held ready has settled."""
    engines.hold(wanted)
    holding = engines._holding
    assert holding is not None
    await asyncio.wait_for(asyncio.shield(holding), PATIENCE_S)


async def test_users_of_one_revision_share_an_engine_which_the_last_one_stops(
    engines: Engines, opa: Opa
) -> None:
    first, second = await asyncio.gather(engines.lend("r1"), engines.lend("r1"))
    assert first is second and opa.started == ["r1"]
    await engines.give_back(first)
    assert opa.stopped == []
    await engines.give_back(second)
    assert opa.stopped == ["r1"]


async def test_what_is_held_ready_is_lent_without_a_start_and_stays_while_it_is_wanted(
    engines: Engines, opa: Opa
) -> None:
    await held(engines, opa, "r2")
    assert (opa.read, opa.started) == (["r2"], ["r2"])
    for _ in range(2):
        await engines.give_back(await engines.lend("r2"))
    assert (opa.read, opa.started, opa.stopped) == (["r2"], ["r2"], [])
    await held(engines, opa, "r3")
    await opa.until(lambda: opa.stopped == ["r2"])
    assert opa.started == ["r2", "r3"]


async def test_what_is_used_is_not_stopped_because_nobody_wants_it_next(engines: Engines, opa: Opa) -> None:
    loaded = await engines.lend("r1")
    await held(engines, opa, "r1")
    await held(engines, opa)
    assert opa.stopped == []
    await engines.give_back(loaded)
    assert opa.stopped == ["r1"]


async def test_a_regime_that_is_over_leaves_its_engine_to_whoever_may_roll_back(
    engines: Engines, opa: Opa
) -> None:
    loaded = await engines.lend("r1")
    await held(engines, opa, "r1")
    await engines.give_back(loaded)
    assert await engines.lend("r1") is loaded
    assert opa.started == ["r1"]
    await engines.give_back(loaded)


async def test_who_activates_goes_on_with_the_start_that_is_under_way(engines: Engines, opa: Opa) -> None:
    opa.slow = asyncio.Event()
    engines.hold(["r2"])
    await opa.until(lambda: opa.started == ["r2"])
    lending = asyncio.ensure_future(engines.lend("r2"))
    await asyncio.sleep(0)
    engines.hold([])
    opa.slow.set()
    await engines.give_back(await asyncio.wait_for(lending, PATIENCE_S))
    assert opa.started == ["r2"]


async def test_a_large_revision_is_not_held_ready_and_can_be_lent(engines: Engines, opa: Opa) -> None:
    opa.large.add("r2")
    await held(engines, opa, "r2", "r3")
    assert opa.started == ["r3"]
    await engines.give_back(await engines.lend("r2"))
    assert opa.started == ["r3", "r2"]


async def test_none_is_held_ready_where_the_configuration_says_so(opa: Opa) -> None:
    engines = Engines(Path("opa"), cast(RulebookDoor, opa), ready_mb=0)
    engines.hold(["r2"])
    assert engines._holding is None
    await engines.close()


@pytest.mark.parametrize("kind", ["failing", "refused"])
async def test_what_cannot_be_run_fails_for_whoever_asks_and_is_tried_again_by_the_next(
    engines: Engines, opa: Opa, kind: str
) -> None:
    faults: set[str] = getattr(opa, kind)
    faults.add("r2")
    asked = await asyncio.gather(engines.lend("r2"), engines.lend("r2"), return_exceptions=True)
    assert [type(each) for each in asked] == 2 * [OpaStartFailed if kind == "failing" else RulebookRefused]
    faults.clear()
    loaded = await engines.lend("r2")
    assert isinstance(loaded, Loaded)
    await engines.give_back(loaded)


@pytest.mark.parametrize("kind", ["failing", "refused"])
async def test_what_cannot_be_held_ready_is_tried_once_while_it_is_wanted_and_keeps_no_other_waiting(
    engines: Engines, opa: Opa, kind: str
) -> None:
    getattr(opa, kind).add("r2")
    await held(engines, opa, "r2", "r3")
    await held(engines, opa, "r2")
    assert (opa.read.count("r2"), opa.started.count("r3")) == (1, 1)
    getattr(opa, kind).clear()
    await held(engines, opa)
    await held(engines, opa, "r2")
    assert opa.read.count("r2") == 2
    await engines.give_back(await engines.lend("r2"))
    assert opa.read.count("r2") == 2


async def test_a_start_for_which_nobody_waits_any_more_is_ended(engines: Engines, opa: Opa) -> None:
    opa.slow = asyncio.Event()
    lending = asyncio.ensure_future(engines.lend("r2"))
    await opa.until(lambda: opa.started == ["r2"])
    lending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lending
    assert opa.stopped == ["r2"]


async def test_at_the_end_all_is_stopped_whoever_uses_it(engines: Engines, opa: Opa) -> None:
    await engines.lend("r1")
    await held(engines, opa, "r2")
    opa.slow = asyncio.Event()
    engines.hold(["r2", "r3"])
    await opa.until(lambda: "r3" in opa.started)
    await engines.close()
    assert sorted(opa.stopped) == ["r1", "r2", "r3"]
    engines.hold(["r4"])
    with pytest.raises(OpaStartFailed, match="it ends"):
        await engines.lend("r4")
    assert "r4" not in opa.read
