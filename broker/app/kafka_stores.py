"""Opens the stores on Kafka, after checking that the cluster keeps what it acknowledges."""

from __future__ import annotations

from dataclasses import replace

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.control import KafkaControlLog
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.record_log import KafkaRecordLog
from broker.adapters.kafka.rulebook_store import KafkaRulebookStore
from broker.adapters.kafka.safety import check_cluster
from broker.adapters.kafka.subscription_store import KafkaSubscriptionStore
from broker.adapters.keyring import read_private_file
from broker.app.config import Backend, Kafka, KafkaAccess, Ledger
from broker.app.stores import Stores
from broker.core.control.seal import ControlSeal
from broker.core.record.fingerprint import fingerprint
from broker.errors import StorageUnavailable
from broker.ports.keys import Keys

PASSWORD_BYTES = 4_096


async def open_kafka_stores(backend: Backend, ledger: Ledger, keys: Keys) -> Stores:
    """Open all stores on the configured cluster. Raises StorageUnavailable, also for a cluster that is not fit."""
    if backend.kafka is None:
        raise ValueError("backend.kafka is missing")
    connection = kafka_connection(backend.kafka)
    findings = await check_cluster(
        connection,
        insecure_plaintext=backend.kafka.insecure_plaintext,
        insecure_replication=backend.kafka.insecure_replication,
        insecure_unclean_election=backend.kafka.insecure_unclean_election,
    )
    if findings:
        raise StorageUnavailable("; ".join(findings))
    timeout_s = backend.kafka.timeout_s
    return Stores(
        record_log=await KafkaRecordLog.open(connection, fingerprint=fingerprint, append_timeout_s=timeout_s),
        ledger_log=await KafkaLedgerLog.open(
            connection, ledger.instance, partitions=ledger.partitions, retention_ms=ledger.retention_ms
        ),
        control_log=await KafkaControlLog.open(connection, ControlSeal(keys), timeout_s=timeout_s),
        subscriptions=await KafkaSubscriptionStore.open(connection, timeout_s=timeout_s),
        rulebooks=await KafkaRulebookStore.open(connection),
    )


def kafka_connection(kafka: KafkaAccess) -> KafkaConnection:
    """The configuration's cluster; raises KeysRefused for a password file that others may read."""
    password = None
    if kafka.sasl_password_file is not None:
        password = read_private_file(kafka.sasl_password_file, PASSWORD_BYTES).decode().strip()
    connection = KafkaConnection(
        bootstrap=tuple(kafka.bootstrap),
        prefix=kafka.prefix.rstrip("."),
        tls=kafka.security_protocol.endswith("SSL"),
        ca_file=_text(kafka.ca_file),
        certificate_file=_text(kafka.certificate),
        key_file=_text(kafka.key),
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_user=kafka.sasl_username,
        sasl_password=password,
    )
    if isinstance(kafka, Kafka):
        return replace(connection, replication=kafka.replication, min_in_sync=kafka.min_insync_replicas)
    return connection


def _text(path: object) -> str | None:
    return None if path is None else str(path)
