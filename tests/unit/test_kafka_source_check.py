"""What would keep a Kafka source from working is told ahead of time, a line each, with the remedy."""

from __future__ import annotations

from typing import Any, cast

from kafka import TopicPartition

from connectors.errors import error_of
from connectors.kafka.group import Group
from connectors.kafka.source_check import cluster_findings, exchange_findings
from connectors.kafka.source_settings import KafkaSourceSettings
from connectors.mapping.mapper import Mapper
from protos.entente.v1 import catalog_pb2

UNKNOWN, FORBIDDEN = 3, 29  # Kafka's error codes


def settings_of(**read: Any) -> KafkaSourceSettings:
    return KafkaSourceSettings.model_validate(
        {
            "plugin": "kafka-source",
            "exchange": {"endpoint": "127.0.0.1:1", "token_env": "TOKEN"},
            "topic": "crash-reports",
            "kafka": {"bootstrap": ["kafka.example:9093"], "tls": True},
            "read": {"topics": ["crashes"], "dead_letter_topic": "dead", **read},
            "map": {"type": "t.v1", "source": "//ems/x", "labels": {"dataclassification": "green"}},
        }
    )


class Admin:
    """kafka-python's admin client on a cluster with these topics: an error code, or what its ACLs permit."""

    def __init__(self, topics: dict[str, int | list[str] | None]) -> None:
        self.topics = topics

    def describe_cluster(self) -> dict[str, str]:
        return {"cluster_id": "c-1"}

    def list_topics(self) -> list[str]:
        return list(self.topics)

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        found = [(name, self.topics.get(name, UNKNOWN)) for name in names]
        return [
            {
                "name": name,
                "error_code": state if isinstance(state, int) else 0,
                "topic_id": "id-1",
                "partitions": [{"partition_index": 0}],
                "authorized_operations": state if isinstance(state, list) else None,
            }
            for name, state in found
        ]

    def list_group_offsets(self, groups: dict[str, None]) -> dict[str, dict[TopicPartition, object]]:
        return {name: {} for name in groups}


def findings(there: dict[str, int | list[str] | None], **read: Any) -> list[str]:
    return cluster_findings(Group(Admin(there), "g"), settings_of(**read))


def test_nothing_is_told_where_nothing_is_amiss() -> None:
    assert findings({"crashes": ["READ", "DESCRIBE"], "dead": ["WRITE"]}) == []
    assert findings({"crashes": ["ALL"], "dead": ["ALL"]}) == []
    assert findings({"crashes": None, "dead": None}) == []  # an old cluster, which does not tell


def test_topics_that_are_missing_hidden_or_of_no_use_are_told() -> None:
    assert findings({"crashes": UNKNOWN, "dead": FORBIDDEN}) == [
        "read.topics: topic crashes of the agency's Kafka: does not exist; create it, or take it out of the configuration",
        "read.dead_letter_topic: topic dead of the agency's Kafka: may not be seen by this user, or it might not exist;"
        " see its ACLs",
    ]
    assert findings({"crashes": ["DESCRIBE"], "dead": ["READ", "DESCRIBE"]}) == [
        "read.topics: topic crashes: this user has no right to READ; see its ACLs",
        "read.dead_letter_topic: topic dead: this user has no right to WRITE; see its ACLs",
    ]


def test_a_pattern_that_nothing_matches_waits_and_says_so() -> None:
    found = findings({"others": None, "dead": None}, topics=[], pattern="crashes.*")
    assert found == ["read.pattern: no topic matches crashes.*; it waits for one"]


class Exchange:
    """Who asks, and whether it may publish."""

    def __init__(self, agency: str, permitted: bool) -> None:
        self.agency = agency
        self.permitted = permitted

    async def who_am_i(self) -> catalog_pb2.WhoAmIResponse:
        if not self.agency:
            raise error_of("TOKEN_EXPIRED", "The token has expired.", code="UNAUTHENTICATED")
        return catalog_pb2.WhoAmIResponse(agency=self.agency)

    async def can_i(self, action: str, topic: str) -> catalog_pb2.CanIResponse:
        assert (action, topic) == ("publish", "crash-reports")
        return catalog_pb2.CanIResponse(permitted=self.permitted)


async def test_the_exchanges_part_is_told() -> None:
    mapper = Mapper(settings_of().map)

    async def told(agency: str, permitted: bool = True) -> list[str]:
        return await exchange_findings(cast(Any, Exchange(agency, permitted)), "crash-reports", mapper)

    assert await told("ems") == []
    assert await told("ems", permitted=False) == [
        "topic crash-reports: this principal may not publish there; ask the topic's owner"
    ]
    assert await told("") == ["exchange: TOKEN_EXPIRED: The token has expired."]
    (finding,) = await told("transport")
    assert finding.startswith("map.source: //ems/x does not begin with //transport/")
