"""Opens this instance's ledger: claims it, checks all that it holds, and goes on where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.app.config import Config
from broker.core.ledger.rebuild import rebuild
from broker.core.ledger.writer import LedgerWriter
from broker.ports.ledger_log import LedgerLog

APPEND_TIMEOUT_S = 10.0


@asynccontextmanager
async def opened_ledger(config: Config, ledger_log: LedgerLog) -> AsyncIterator[LedgerWriter]:
    """The ledger inside the block. Raises LedgerRefused for one that is not what it was, StorageUnavailable."""
    instance = config.ledger.instance
    epoch = await ledger_log.claim()
    rebuilt = await rebuild(ledger_log, instance)
    kafka = config.backend.kafka
    timeout_s = APPEND_TIMEOUT_S if kafka is None else kafka.timeout_s
    writer = LedgerWriter(ledger_log, instance, epoch, rebuilt.tree, append_timeout_s=timeout_s)
    try:
        yield writer
    finally:
        await writer.close()
