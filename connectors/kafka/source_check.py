"""What would keep a Kafka source from working, a line each; reaches out, changes nothing."""

from __future__ import annotations

from typing import Literal

from connectors.client import Client
from connectors.errors import EntenteClientError
from connectors.kafka.group import Group
from connectors.kafka.source_offsets import read_topics
from connectors.kafka.source_settings import KafkaSourceSettings
from connectors.mapping.mapper import Mapper
from connectors.runtime.model import ConnectorFailed


async def exchange_findings(exchange: Client, topic: str, mapper: Mapper) -> list[str]:
    """Whether the exchange can be reached, takes records on the topic, and would take their source."""
    try:
        caller = await exchange.who_am_i()
        permitted = (await exchange.can_i("publish", topic)).permitted
    except EntenteClientError as error:
        return [f"exchange: {error}"]
    denied = (
        [] if permitted else [f"topic {topic}: this principal may not publish there; ask the topic's owner"]
    )
    return [*denied, *mapper.source_findings(caller.agency)]


def cluster_findings(group: Group, settings: KafkaSourceSettings) -> list[str]:
    """Whether topics and dead-letter topic are there and may be used, and the group's offsets can be read. Blocks."""
    findings = []
    topics = read_topics(group, settings.read)
    if not topics:
        findings.append(f"read.pattern: no topic matches {settings.read.pattern}; it waits for one")
    for key, name, operation in _named(settings, topics):
        try:
            group.require_topics([name])
        except ConnectorFailed as error:
            findings.append(f"{key}: {error.cause}")
            continue
        if not group.may(operation, name):
            findings.append(f"{key}: topic {name}: this user has no right to {operation}; see its ACLs")
    group.committed()
    return findings


def _named(
    settings: KafkaSourceSettings, topics: list[str]
) -> list[tuple[str, str, Literal["READ", "WRITE"]]]:
    letters = settings.read.dead_letter_topic
    named: list[tuple[str, str, Literal["READ", "WRITE"]]] = [
        ("read.topics", each, "READ") for each in topics
    ]
    return named if letters is None else [*named, ("read.dead_letter_topic", letters, "WRITE")]
