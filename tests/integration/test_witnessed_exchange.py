"""A whole exchange with witnesses: its checkpoints come back cosigned, and a ledger that went back does not start."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from broker.adapters.clock import SystemClock
from broker.adapters.keyring import FileKeys
from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader
from broker.app.backends import open_stores
from broker.app.config import Config, LedgerWitness, Listen, load_config
from broker.app.initialise import initialise
from broker.app.ledger import opened_ledger
from broker.app.server import running
from broker.core.checkpoint.checkpoint import open_checkpoint
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import VerifierKey
from broker.core.evidence import Evidence
from broker.core.witness.cosigning import TrustedLog
from broker.errors import LedgerRefused
from tests.fakes.regimes import in_force
from tests.services.ledgercheck import run_ledgercheck
from tests.services.ports import free_port
from tests.services.witness import ServedWitness, served

pytestmark = pytest.mark.opa

ORIGIN = "development/broker"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange that is started and stopped; each start adds to its ledger."""

    config: Config
    key: VerifierKey
    witness: ServedWitness
    file: Path

    @property
    def data(self) -> Path:
        """Where its ledger is."""
        assert self.config.backend.data_dir is not None
        return self.config.backend.data_dir

    def configured(self, *kinds: str) -> Config:
        """The configuration with some of the witnesses."""
        sections = {
            "file": {"name": "archive", "path": str(self.file)},
            "http": {
                "name": "auditors",
                "url": self.witness.url,
                "vkey": self.witness.key.text(),
                "ca_file": str(self.witness.ca_file),
                "timeout_s": 60.0,
            },
        }
        witnesses = [LedgerWitness.model_validate({"kind": kind, **sections[kind]}) for kind in kinds]
        ledger = self.config.ledger.model_copy(update={"witnesses": witnesses})
        return self.config.model_copy(update={"ledger": ledger})

    async def start(self, *kinds: str) -> None:
        """Open its ledger as a start does, write the entry of a start, and stop."""
        config, clock = self.configured(*kinds), SystemClock()
        keys = FileKeys.open(config.keys.directory)
        stores = await open_stores(config.backend, config.ledger, clock, keys)
        try:
            async with opened_ledger(config, stores.ledger_log, keys, clock) as ledger:
                await ledger.account_start(Evidence(ledger.writer, clock, in_force()), {})
        finally:
            await stores.close()

    async def checkpoints(self) -> list[bytes]:
        """All that are stored."""
        reader = await SqliteLedgerReader.open(self.data / "ledger.db")
        found = [stored.note async for stored in reader.checkpoints("broker")]
        await reader.close()
        return found

    def sizes(self) -> dict[str, int]:
        """What each witness holds."""
        held = self.witness.store.held(ORIGIN)
        lines = self.file.read_text().splitlines()
        return {"http": 0 if held is None else int(held.splitlines()[1]), "file": len(lines)}


@asynccontextmanager
async def _exchange(tmp_path: Path, opa_binary: Path) -> AsyncIterator[Exchange]:
    made = initialise(tmp_path / "exchange", f"127.0.0.1:{free_port(2)}")
    read = load_config(made.config)
    changes = {
        "rulebook": read.rulebook.model_copy(update={"opa": opa_binary}),
        "listen": Listen(tls="127.0.0.1:0"),  # a port that was just given back may not be free at once
    }
    config = read.model_copy(update=changes)
    key = VerifierKey.parse((made.directory / "keys" / "ledger.vkey").read_text().strip())
    file = tmp_path / "checkpoints.jsonl"
    file.touch()
    async with served(tmp_path / "w1", [TrustedLog(ORIGIN, (key,))]) as witness:
        yield Exchange(config, key, witness, file)


@pytest.fixture
async def exchange(tmp_path: Path, opa_binary: Path) -> AsyncIterator[Exchange]:
    async with _exchange(tmp_path, opa_binary) as made:
        yield made


def copy(source: Path, target: Path) -> None:
    """Put a copy of the source in the target's place."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


async def test_checkpoints_come_back_cosigned(exchange: Exchange) -> None:
    for _ in range(2):
        async with running(exchange.configured("file", "http")):
            pass
    cosigned = [
        note
        for note in await exchange.checkpoints()
        if cosignature_time_s(open_checkpoint(note, [exchange.key])[1], exchange.witness.key) is not None
    ]
    assert cosigned
    # And for those who share no code with this project.
    checks = [
        {
            "kind": "cosignature",
            "note": note,
            "origin": ORIGIN,
            "vkey": exchange.key.named(ORIGIN).text(),
            "witness": exchange.witness.key.text(),
        }
        for note in cosigned
    ]
    assert all(verdict.ok for verdict in run_ledgercheck(checks))


async def test_a_ledger_that_went_back_does_not_start(exchange: Exchange, tmp_path: Path) -> None:
    await exchange.start("file", "http")
    backup, newest = tmp_path / "backup", tmp_path / "newest"
    await asyncio.to_thread(copy, exchange.data, backup)
    await exchange.start("file", "http")
    await asyncio.to_thread(copy, exchange.data, newest)
    sizes = exchange.sizes()

    # 1. An old backup is restored.
    await asyncio.to_thread(copy, backup, exchange.data)
    for kind, name in (("file", "archive"), ("http", "auditors")):
        with pytest.raises(LedgerRefused, match=rf"{name}: .*the ledger was rolled back"):
            await exchange.start(kind)
    # 2. It goes on from there unwitnessed, until it has more entries than the witnesses know of.
    for _ in range(3):
        await exchange.start()
    for kind, name in (("file", "archive"), ("http", "auditors")):
        with pytest.raises(LedgerRefused, match=rf"instance broker: {name}: "):
            await exchange.start(kind)
    # 3. Everything is gone.
    await asyncio.to_thread(shutil.rmtree, exchange.data)
    for kind, name in (("file", "archive"), ("http", "auditors")):
        with pytest.raises(LedgerRefused, match=rf"{name}: .* while the ledger has 0 entries"):
            await exchange.start(kind)
    assert exchange.sizes() == sizes
    # 4. The true state is back.
    await asyncio.to_thread(copy, newest, exchange.data)
    await exchange.start("file", "http")
    assert exchange.sizes()["http"] > sizes["http"]


async def test_without_its_witness_it_starts_and_says_so(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.start("file", "http")
    away = replace(exchange, witness=replace(exchange.witness, url=f"https://127.0.0.1:{free_port()}"))
    await away.start("file", "http")
    assert "auditors: cannot be reached" in caplog.text
    assert exchange.sizes()["file"] > exchange.sizes()["http"]
