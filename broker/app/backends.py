"""Opens the stores of the configured backend; an adapter is imported only when it is used."""

from __future__ import annotations

from broker.app.config import Backend
from broker.app.stores import Stores
from broker.ports.clock import Clock


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
