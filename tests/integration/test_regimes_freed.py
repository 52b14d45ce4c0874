"""A rulebook that is over is freed by its last reference: the collector does not look at what a start has left."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from pathlib import Path

import pytest

from broker.adapters.clock import SystemClock
from broker.adapters.keyring import FileKeys
from broker.app import switching
from broker.app.backends import open_stores
from broker.app.config import load_config
from broker.app.engines import Engines
from broker.app.initialise import initialise
from broker.app.regime import RegimeBuilder
from broker.app.rulebook import RulebookDoor
from broker.app.switching import put_in_force
from broker.core.decide.question import make_question
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.model.overlay import Overlays

pytestmark = pytest.mark.opa

ASKED = {
    "action": "subscribe",
    "subject": {"agency": "ems", "id": "medic", "roles": [], "attributes": {}, "purpose": "none"},
    "topic": "vulnerabilities",
}


async def test_what_is_over_is_freed_without_a_collection(
    tmp_path: Path, opa_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "CLOSE_AFTER_S", 0.0)
    initialise(tmp_path / "exchange", "127.0.0.1:1", "embedded", None)
    config, clock = load_config(tmp_path / "exchange" / "entente.toml"), SystemClock()
    keys = FileKeys.open(config.keys.directory)
    stores = await open_stores(config.backend, config.ledger, clock, keys)
    door = RulebookDoor(opa_binary, stores.rulebooks)
    engines = Engines(opa_binary, door, ready_mb=0)
    builder = RegimeBuilder(config, stores, keys, clock, engines)
    directory = config.rulebook.directory
    later = revision_of({**read_rulebook(directory).files, "agencies/ems/x.rego": b"package agencies.ems\n"})
    await stores.rulebooks.put(later)
    gc.disable()
    try:
        async with put_in_force(builder, door.from_directory(directory), Overlays()) as present:
            regime = present.in_force.present.regime
            assert await regime.decider.decide([make_question(ASKED, "ems")]) != [None]
            registry = regime.registry
            parts = [weakref.ref(each) for each in (regime.decider, regime.access, regime.identity)]
            del regime
            await present.switch(await present.prepare(later.id))
            await asyncio.gather(*present._tasks)
            assert [part() for part in parts] == [None, None, None]
            assert sys.getrefcount(registry) == 2  # this test's, and the argument of the call
    finally:
        gc.enable()
        await stores.close()
