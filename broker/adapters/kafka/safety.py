"""Whether a cluster is fit to keep what must not be lost: replication, in-sync replicas, elections, encryption.

Outside development the broker does not start while a finding stands; each can be waived only by an option whose name
says `insecure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection

_MIN_REPLICATION = 3
_MIN_IN_SYNC = 2
_PLAINTEXT, _REPLICATION, _ELECTION = (
    "insecure_plaintext",
    "insecure_replication",
    "insecure_unclean_election",
)


@dataclass(frozen=True, slots=True)
class _Finding:
    """One line, and the option that waives it."""

    text: str
    waiver: str

    def __str__(self) -> str:
        return f"Kafka: {self.text}, or set {self.waiver}"


async def check_cluster(
    connection: KafkaConnection,
    *,
    insecure_plaintext: bool = False,
    insecure_replication: bool = False,
    insecure_unclean_election: bool = False,
) -> tuple[str, ...]:
    """Findings, one line each with the remedy; empty if the cluster is fit. Raises StorageUnavailable.

    insecure_plaintext waives encryption, insecure_replication replicas and in-sync replicas, insecure_unclean_election
    elections.
    """
    waived = {
        _PLAINTEXT: insecure_plaintext,
        _REPLICATION: insecure_replication,
        _ELECTION: insecure_unclean_election,
    }
    admin = ClusterAdmin(connection)
    try:
        found = [*_connection(connection), *await admin.call(_brokers)]
        found += await admin.call(lambda client: _topics(client, connection.prefix))
    finally:
        await admin.close()
    return tuple(str(finding) for finding in found if not waived[finding.waiver])


def _connection(connection: KafkaConnection) -> list[_Finding]:
    findings = []
    if not connection.encrypted:
        findings.append(_Finding("the connection is not encrypted; use SSL or SASL_SSL", _PLAINTEXT))
    if connection.replication < _MIN_REPLICATION:
        text = f"topics would be created with {connection.replication} replicas; configure {_MIN_REPLICATION}"
        findings.append(_Finding(text, _REPLICATION))
    return findings


def _brokers(client: Any) -> list[_Finding]:
    nodes = [broker["broker_id"] for broker in client.describe_cluster()["brokers"]]
    findings = []
    if len(nodes) < _MIN_REPLICATION:
        text = f"the cluster has {len(nodes)} brokers; run {_MIN_REPLICATION}"
        findings.append(_Finding(text, _REPLICATION))
    for node, settings in _settings(client, ConfigResourceType.BROKER, [str(node) for node in nodes]).items():
        findings.extend(_settings_findings(f"broker {node}", settings))
    return findings


def _topics(client: Any, prefix: str) -> list[_Finding]:
    """The exchange's topics that exist already."""
    names = [name for name in client.list_topics() if name.startswith(f"{prefix}.")]
    if not names:
        return []
    findings = []
    for topic in client.describe_topics(names):
        fewest = min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0)
        if fewest < _MIN_REPLICATION:
            text = f"topic '{topic['name']}' has {fewest} replicas; reassign it to {_MIN_REPLICATION}"
            findings.append(_Finding(text, _REPLICATION))
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


def _settings_findings(place: str, settings: Mapping[str, Any]) -> list[_Finding]:
    """A setting that the cluster does not tell counts as unfit."""
    findings = []
    in_sync = settings.get("min.insync.replicas", {}).get("value")
    if in_sync is None or int(in_sync) < _MIN_IN_SYNC:
        text = f"{place} has min.insync.replicas {in_sync}; set {_MIN_IN_SYNC}"
        findings.append(_Finding(text, _REPLICATION))
    if settings.get("unclean.leader.election.enable", {}).get("value") != "false":
        text = (
            f"{place} allows unclean leader elections, which lose acknowledged records;"
            " set unclean.leader.election.enable=false"
        )
        findings.append(_Finding(text, _ELECTION))
    return findings
