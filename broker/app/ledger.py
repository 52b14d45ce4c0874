"""Opens this instance's ledger: claims it, checks all that it holds, and goes on where it ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.app.config import Config
from broker.app.witnesses import open_witnesses
from broker.core.evidence import Evidence
from broker.core.ledger.checkpointer import Checkpointer, CheckpointSettings
from broker.core.ledger.rebuild import rebuild
from broker.core.ledger.signing import CheckpointSigner, LedgerKeys, origin_of
from broker.core.ledger.writer import LedgerWriter
from broker.model.ledger import JsonValue
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.ledger_log import LedgerLog

log = logging.getLogger(__name__)

APPEND_TIMEOUT_S = 10.0
PUBLIC_KEYS = "ledger.vkey"


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """The ledger of this instance, ready to be written."""

    writer: LedgerWriter
    checkpointer: Checkpointer
    signer: CheckpointSigner
    epoch: int
    key: str

    async def account_start(self, evidence: Evidence, start: dict[str, JsonValue]) -> None:
        """Write the entries of the start, and begin to sign checkpoints; raises EntenteError."""
        change = self.signer.change
        if change is not None:
            await evidence.write("key_rotated", {"change": change})
            self.signer.change_written(self.writer.size)
        mine: dict[str, JsonValue] = {
            "instance": self.writer.instance,
            "epoch": self.epoch,
            "ledger_key": self.key,
        }
        await evidence.write("configuration", {"start": start | mine})
        self.checkpointer.start(evidence.write)


@asynccontextmanager
async def opened_ledger(
    config: Config, ledger_log: LedgerLog, keys: Keys, clock: Clock
) -> AsyncIterator[OpenLedger]:
    """The ledger inside the block. Raises LedgerRefused for one that is not what it was, StorageUnavailable."""
    section, kafka = config.ledger, config.backend.kafka
    signing = LedgerKeys(keys, config.exchange.name)
    origin = origin_of(config.exchange.name, section.instance)
    _look_at_public_keys(config.keys.directory / PUBLIC_KEYS, signing)
    epoch = await ledger_log.claim()
    retention = section.retention_ms is not None
    rebuilt = await rebuild(
        ledger_log, section.instance, origin=origin, keys=signing.known, retention=retention
    )
    log.info("the ledger '%s' is whole: %d entries, now epoch %d", section.instance, rebuilt.tree.size, epoch)
    timeout_s = APPEND_TIMEOUT_S if kafka is None else kafka.timeout_s
    writer = LedgerWriter(ledger_log, section.instance, epoch, rebuilt.tree, append_timeout_s=timeout_s)
    signer = CheckpointSigner(origin, signing, rebuilt)
    checkpointer = Checkpointer(
        ledger_log,
        writer,
        rebuilt,
        signer=signer,
        witnesses=open_witnesses(section.witnesses, clock),
        clock=clock,
        settings=CheckpointSettings(
            section.checkpoint_interval_s, section.checkpoint_entries, section.retention_ms
        ),
    )
    try:
        await checkpointer.begin()
        yield OpenLedger(writer, checkpointer, signer, epoch, signing.current.text())
    finally:
        await checkpointer.close()
        await writer.close()


def _look_at_public_keys(path: Path, keys: LedgerKeys) -> None:
    """Auditors are given this file, so it should hold the key that signs now; what it holds decides nothing here."""
    try:
        listed = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        listed = []
    if keys.current.text() not in listed:
        log.warning("%s lacks the key that signs the ledger; add the line %s", path, keys.current.text())
