"""Whether a cluster is fit to keep what must not be lost: replication, in-sync replicas, elections, encryption.

Outside development the broker does not start while a finding stands; each can be waived only by an option whose name
says `insecure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection

_MIN_REPLICATION = 3
_MIN_IN_SYNC = 2


async def check_cluster(
    connection: KafkaConnection, *, insecure_plaintext: bool = False, insecure_replication: bool = False
) -> tuple[str, ...]:
    """Findings, one line each with the remedy; empty if the cluster is fit. Raises StorageUnavailable.

    insecure_plaintext waives encryption; insecure_replication waives replication, in-sync replicas and elections.
    """
    findings = [] if insecure_plaintext else _plaintext(connection)
    if insecure_replication:
        return tuple(findings)
    if connection.replication < _MIN_REPLICATION:
        findings.append(
            f"Kafka: topics would be created with {connection.replication} replicas; configure {_MIN_REPLICATION},"
            " or start with --insecure-replication"
        )
    admin = ClusterAdmin(connection)
    try:
        findings.extend(await admin.call(_brokers))
        findings.extend(await admin.call(lambda client: _topics(client, connection.prefix)))
    finally:
        await admin.close()
    return tuple(findings)


def _plaintext(connection: KafkaConnection) -> list[str]:
    if connection.encrypted:
        return []
    return ["Kafka: the connection is not encrypted; configure a CA file, or start with --insecure-plaintext"]


def _brokers(client: Any) -> list[str]:
    nodes = [broker["broker_id"] for broker in client.describe_cluster()["brokers"]]
    findings = []
    if len(nodes) < _MIN_REPLICATION:
        findings.append(
            f"Kafka: the cluster has {len(nodes)} brokers; run {_MIN_REPLICATION}, or start with --insecure-replication"
        )
    for node, settings in _settings(client, ConfigResourceType.BROKER, [str(node) for node in nodes]).items():
        findings.extend(_settings_findings(f"broker {node}", settings))
    return findings


def _topics(client: Any, prefix: str) -> list[str]:
    """The exchange's topics that exist already."""
    names = [name for name in client.list_topics() if name.startswith(f"{prefix}.")]
    if not names:
        return []
    findings = []
    for topic in client.describe_topics(names):
        fewest = min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0)
        if fewest < _MIN_REPLICATION:
            findings.append(
                f"Kafka: topic '{topic['name']}' has {fewest} replicas; reassign it to {_MIN_REPLICATION},"
                " or start with --insecure-replication"
            )
    for name, settings in _settings(client, ConfigResourceType.TOPIC, names).items():
        findings.extend(_settings_findings(f"topic '{name}'", settings))
    return findings


def _settings(client: Any, kind: ConfigResourceType, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Settings in effect, defaults too, of brokers or topics by name."""
    asked = [ConfigResource(kind, name) for name in names]
    answer: Mapping[str, Mapping[str, Mapping[str, Any]]] = client.describe_configs(
        asked, config_filter="all"
    )
    return answer[kind.name.lower()]


def _settings_findings(place: str, settings: Mapping[str, Any]) -> list[str]:
    """A setting that the cluster does not tell counts as unfit."""
    findings = []
    in_sync = settings.get("min.insync.replicas", {}).get("value")
    if in_sync is None or int(in_sync) < _MIN_IN_SYNC:
        findings.append(
            f"Kafka: {place} has min.insync.replicas {in_sync}; set {_MIN_IN_SYNC}, or start with --insecure-replication"
        )
    if settings.get("unclean.leader.election.enable", {}).get("value") != "false":
        findings.append(
            f"Kafka: {place} allows unclean leader elections, which lose acknowledged records;"
            " set unclean.leader.election.enable=false, or start with --insecure-replication"
        )
    return findings
