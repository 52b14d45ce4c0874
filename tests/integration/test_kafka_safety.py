"""The check that a cluster is fit, on a real node that is not."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.safety import check_cluster
from broker.app.config import Backend, Kafka, Ledger
from broker.app.kafka_stores import open_kafka_stores
from broker.errors import StorageUnavailable
from tests.fakes.regimes import FixedKeys

pytestmark = pytest.mark.kafka


def connection_to(bootstrap: str, *, replication: int = 1) -> KafkaConnection:
    return KafkaConnection(bootstrap=(bootstrap,), prefix=f"s{uuid.uuid4().hex[:8]}", replication=replication)


async def test_a_development_node_is_refused_for_each_reason(kafka_bootstrap: str) -> None:
    connection = connection_to(kafka_bootstrap)
    await (await KafkaLedgerLog.open(connection)).close()
    findings = await check_cluster(connection)
    for part in (
        "not encrypted",
        "created with 1 replicas",
        "cluster has 1 brokers",
        "broker 1 has min.insync.replicas 1",
        f"topic '{connection.prefix}.ledger' has 1 replicas",
        f"topic '{connection.prefix}.ledger' has min.insync.replicas 1",
    ):
        assert sum(part in finding for finding in findings) == 1, part
    assert not any("unclean" in finding for finding in findings)
    assert all("\n" not in finding and "or set insecure_" in finding for finding in findings)


async def test_each_option_waives_its_own_findings_only(kafka_bootstrap: str) -> None:
    connection = connection_to(kafka_bootstrap)
    (encryption,) = await check_cluster(connection, insecure_replication=True)
    assert "not encrypted" in encryption
    durability = await check_cluster(connection, insecure_plaintext=True)
    assert durability
    assert not any("encrypted" in finding for finding in durability)
    assert await check_cluster(connection, insecure_plaintext=True, insecure_replication=True) == ()


async def test_an_unclean_election_setting_is_found(kafka_bootstrap: str) -> None:
    connection = connection_to(kafka_bootstrap)
    ledger = await KafkaLedgerLog.open(connection)
    name = connection.topic("ledger")

    def allow(client: object) -> None:
        from kafka.admin import ConfigResource

        setting = {"unclean.leader.election.enable": "true", "min.insync.replicas": "2"}
        client.alter_configs([ConfigResource("TOPIC", name, setting)])  # type: ignore[attr-defined]

    await ledger._admin.call(allow)
    findings = await check_cluster(connection, insecure_plaintext=True)
    assert sum(f"topic '{name}' allows unclean" in finding for finding in findings) == 1
    assert not any(f"topic '{name}' has min.insync" in finding for finding in findings)
    await ledger.close()


async def test_more_replicas_than_brokers_are_refused_not_lowered(kafka_bootstrap: str) -> None:
    with pytest.raises(StorageUnavailable):
        await KafkaLedgerLog.open(connection_to(kafka_bootstrap, replication=3))


def test_secrets_are_not_shown() -> None:
    connection = KafkaConnection(
        bootstrap=("127.0.0.1:1",),
        sasl_mechanism="PLAIN",
        sasl_user="u",
        sasl_password="hush",
        key_password="hush",
    )
    assert "hush" not in repr(connection)


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [
        (False, None, "PLAINTEXT"),
        (True, None, "SSL"),
        (False, "PLAIN", "SASL_PLAINTEXT"),
        (True, "SCRAM-SHA-512", "SASL_SSL"),
    ],
)
def test_the_protocol_follows_from_the_options(tls: bool, sasl: str | None, protocol: str) -> None:
    connection = KafkaConnection(
        bootstrap=("127.0.0.1:1",),
        tls=tls,
        sasl_mechanism=sasl,
        sasl_user="u",
        sasl_password="p",  # type: ignore[arg-type]
    )
    settings = connection.client_settings()
    assert settings["security_protocol"] == protocol
    assert (settings["ssl_context"] is not None) is tls


async def test_an_exchange_does_not_start_on_an_unfit_cluster(kafka_bootstrap: str) -> None:
    secure = Kafka(
        bootstrap=[kafka_bootstrap],
        prefix=f"s{uuid.uuid4().hex[:8]}.",
        insecure_plaintext=True,
        security_protocol="PLAINTEXT",
    )
    backend = Backend.model_validate({"kind": "kafka", "kafka": secure})
    with pytest.raises(StorageUnavailable, match="cluster has 1 brokers; run 3, or set insecure_replication"):
        await open_kafka_stores(backend, Ledger(), FixedKeys())


async def test_topics_are_made_with_the_configured_in_sync_replicas(kafka_bootstrap: str) -> None:
    connection = replace(connection_to(kafka_bootstrap), min_in_sync=2)
    await (await KafkaLedgerLog.open(connection)).close()
    findings = await check_cluster(connection, insecure_plaintext=True)
    assert not any(f"topic '{connection.prefix}.ledger' has min.insync" in finding for finding in findings)
