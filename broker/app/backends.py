"""Opens the stores of the configured backend; an adapter is imported only when it is used."""

from __future__ import annotations

from pathlib import Path

from broker.app.config import Backend, Ledger
from broker.app.stores import Stores
from broker.core.control.seal import ControlSeal
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.ledger_log import LedgerReader


async def open_stores(backend: Backend, ledger: Ledger, clock: Clock, keys: Keys) -> Stores:
    """Open the backend's stores. Raises StorageUnavailable."""
    if backend.kind == "kafka":
        from broker.app.kafka_stores import open_kafka_stores

        return await open_kafka_stores(backend, ledger, keys)
    return await _open_embedded(backend, ledger, clock, keys)


async def open_ledger_reader(backend: Backend) -> LedgerReader:
    """Open the ledgers of the backend for reading, without the right to change them. Raises StorageUnavailable."""
    if backend.kind == "kafka":
        from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
        from broker.app.kafka_stores import kafka_connection

        if backend.kafka is None:
            raise ValueError("backend.kafka is missing")
        return await KafkaLedgerReader.open(kafka_connection(backend.kafka))
    from broker.adapters.sqlite.ledger_reader import SqliteLedgerReader

    return await SqliteLedgerReader.open(_data_dir(backend) / "ledger.db")


async def _open_embedded(backend: Backend, ledger: Ledger, clock: Clock, keys: Keys) -> Stores:
    from broker.adapters.sqlite.control import SqliteControlLog
    from broker.adapters.sqlite.ledger import SqliteLedgerLog
    from broker.adapters.sqlite.record_log import SqliteRecordLog
    from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
    from broker.adapters.sqlite.subscription_store import SqliteSubscriptionStore

    directory = _data_dir(backend)
    return Stores(
        record_log=await SqliteRecordLog.open(directory, clock=clock),
        ledger_log=await SqliteLedgerLog.open(directory, ledger.instance),
        control_log=await SqliteControlLog.open(directory, ControlSeal(keys)),
        subscriptions=await SqliteSubscriptionStore.open(directory),
        rulebooks=await SqliteRulebookStore.open(directory),
    )


def _data_dir(backend: Backend) -> Path:
    if backend.data_dir is None:
        raise ValueError("backend.data_dir is missing")
    return backend.data_dir
