"""What would keep a Kafka sink from working, found ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from kafka.errors import CoordinatorNotAvailableError, TransactionalIdNotFoundError

from connectors.client import Client
from connectors.errors import EntenteClientError
from connectors.kafka.connection import Cluster
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.thread import ClientThread
from connectors.kafka.topics import topic_finding
from connectors.runtime.model import ConnectorFailed


async def sink_findings(
    name: str, settings: KafkaSinkSettings, identity: str, exchange: Client
) -> Sequence[str]:
    """A line each; changes nothing on either side."""
    cluster = settings.kafka.cluster()
    thread = ClientThread(f"check-{name}", cluster)
    try:
        findings = list(await thread.call(_kafka_findings, cluster, settings, identity))
    except ConnectorFailed as failed:
        findings = [failed.cause]
    finally:
        thread.end()
    return [*findings, *await _exchange_findings(settings, exchange)]


def _kafka_findings(cluster: Cluster, settings: KafkaSinkSettings, identity: str) -> list[str]:
    write = settings.write
    templated = "{" in write.topic
    wanted = [
        None if templated else write.topic,
        write.notice_topic,
        write.cursor_topic,
        write.dead_letter_topic,
    ]
    admin = cluster.admin()
    try:
        found = [
            topic_finding(admin, cluster, topic, compacted=topic == write.cursor_topic)
            for topic in wanted
            if topic is not None
        ]
        # Without the right to it, this raises what the writer would be told; not there yet is as good.
        with suppress(TransactionalIdNotFoundError, CoordinatorNotAvailableError):
            admin.describe_transactions([identity])
    finally:
        admin.close()
    missing_is_well = write.create_topics
    return [each for each in found if each is not None and not (missing_is_well and "has no topic" in each)]


async def _exchange_findings(settings: KafkaSinkSettings, exchange: Client) -> list[str]:
    try:
        answer = await exchange.can_i("subscribe", settings.topic, settings.purpose)
    except EntenteClientError as error:
        return [str(error)]
    if answer.permitted:
        return []
    return [
        f"the exchange does not permit topic {settings.topic} for purpose {settings.purpose};"
        " ask the owner for an agreement, or the issuer of the token for the purpose"
    ]
