"""Opens the stores of the configured backend; an adapter is imported only when it is used."""

from __future__ import annotations

from dataclasses import dataclass

from broker.app.config import Backend
from broker.ports.clock import Clock
from broker.ports.ledger import Ledger
from broker.ports.record_log import RecordLog
from broker.ports.rulebook_store import RulebookStore
from broker.ports.subscription_store import SubscriptionStore


@dataclass(frozen=True, slots=True)
class Stores:
    """The four stores of one exchange."""

    record_log: RecordLog
    ledger: Ledger
    subscriptions: SubscriptionStore
    rulebooks: RulebookStore

    async def close(self) -> None:
        """Close all; the ledger last, so that what ends the others can still be accounted for."""
        await self.record_log.close()
        await self.subscriptions.close()
        await self.rulebooks.close()
        await self.ledger.close()


async def open_stores(backend: Backend, clock: Clock) -> Stores:
    """Open the backend's stores. Raises StorageUnavailable."""
    if backend.kind == "kafka":
        from broker.app.kafka_stores import open_kafka_stores

        return await open_kafka_stores(backend)
    return await _open_embedded(backend, clock)


async def _open_embedded(backend: Backend, clock: Clock) -> Stores:
    from broker.adapters.sqlite.ledger import SqliteLedger
    from broker.adapters.sqlite.record_log import SqliteRecordLog
    from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
    from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore

    directory = backend.data_dir
    return Stores(
        record_log=await SqliteRecordLog.open(directory, clock=clock),
        ledger=await SqliteLedger.open(directory),
        subscriptions=await SqliteSubscriptionStore.open(directory),
        rulebooks=await SqliteRulebookStore.open(directory),
    )
