"""Whether topics that a sink writes to are there, and as they must be. Blocks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from connectors.kafka.connection import Cluster
from connectors.runtime.model import ConnectorFailed

_COMPACT = "compact"
_POLICY = "cleanup.policy"
_LARGEST = "max.message.bytes"


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """largest_bytes: of a batch of records, None where the right to see it is missing."""

    partitions: int
    largest_bytes: int | None


def ensure_topic(cluster: Cluster, topic: str, *, create: bool, compacted: bool = False) -> TopicFacts:
    """What is to be known of it; it is created, as the cluster's defaults say, if that is wished.

    compacted: refuse a topic that forgets its records after some time. Raises ConnectorFailed and KafkaError.
    """
    admin = cluster.admin()
    try:
        partitions = partitions_in(admin, topic)
        if partitions is None and create:
            configs = {_POLICY: _COMPACT} if compacted else {}
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics({topic: {"configs": configs}})
            admin.wait_for_topics([topic])
            partitions = partitions_in(admin, topic)
        finding = topic_finding(admin, cluster, topic, compacted=compacted)
        if finding is not None or partitions is None:
            raise ConnectorFailed(finding or f"topic {topic}: was deleted just now")
        largest = setting_of(admin, topic, _LARGEST)
        return TopicFacts(partitions, None if largest is None else int(largest))
    finally:
        admin.close()


def topic_finding(admin: Any, cluster: Cluster, topic: str, *, compacted: bool = False) -> str | None:
    """What is wrong with it, with the remedy; None: nothing."""
    if partitions_in(admin, topic) is None:
        where = f"Kafka at {', '.join(cluster.bootstrap)}"
        return f"{where} has no topic {topic} (or hides it); create it, or set write.create_topics"
    if compacted and _COMPACT not in (setting_of(admin, topic, _POLICY) or _COMPACT):
        return f"topic {topic} forgets what it keeps: its cleanup.policy is not compact; set it so"
    return None


def partitions_in(admin: Any, topic: str) -> int | None:
    """None for a topic that is not there."""
    with contextlib.suppress(UnknownTopicOrPartitionError):
        (found,) = admin.describe_topics([topic])
        if found["error_code"] == 0:
            return len(found["partitions"])
        if found["error_code"] != UnknownTopicOrPartitionError.errno:
            raise ConnectorFailed(
                f"topic {topic}: Kafka answers with error {found['error_code']}; see its ACLs and state"
            )
    return None


def setting_of(admin: Any, topic: str, name: str) -> str | None:
    """One of its settings; None where the right to see it is missing."""
    answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    value = answer.get("topic", {}).get(topic, {}).get(name, {}).get("value")
    return None if value is None else str(value)
