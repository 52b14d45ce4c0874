"""A consumer group seen from outside: its topics, what it has committed, and how that is altered. Calls block."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, Self, TypeVar

from kafka import TopicPartition
from kafka.errors import (
    GroupIdNotFoundError,
    NoError,
    NonEmptyGroupError,
    RetriableError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata

from connectors.kafka.connection import Cluster
from connectors.kafka.positions import Bounds, Committed
from connectors.runtime.model import ConnectorFailed

T = TypeVar("T")

PATIENCE_S = 10.0
PAUSE_S = 0.2

_WHY = {
    UnknownTopicOrPartitionError: "does not exist; create it, or take it out of the configuration",
    TopicAuthorizationFailedError: "may not be seen by this user, or it might not exist; see its ACLs",
}
_MEMBERS = (NonEmptyGroupError, UnknownMemberIdError)


def stamped(
    offsets: Mapping[TopicPartition, int], topic_ids: Mapping[str, str]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets with their topic's id: those of a topic that was deleted say nothing of one made in its place."""
    return {
        each: OffsetAndMetadata(offset, topic_ids.get(each.topic, ""), -1) for each, offset in offsets.items()
    }


class GroupInUse(ConnectorFailed):
    """Somebody reads in the group: its offsets are not altered by others then."""


class Group:
    """One group of one cluster. cluster_id: the cluster's own name for itself."""

    def __init__(self, admin: Any, name: str) -> None:
        self._admin = admin
        self.name = name
        self.cluster_id = str(admin.describe_cluster()["cluster_id"])

    @classmethod
    def open(cls, cluster: Cluster, name: str) -> Self:
        """Connect. Raises KafkaError, ConnectorFailed and OSError."""
        if cluster.sasl_token is not None:
            cluster.sasl_token()  # so that its failure is told as such: clients only say that they cannot connect
        admin = cluster.admin()
        try:
            return cls(admin, name)
        except BaseException:
            admin.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The id of each (KIP-516). Raises ConnectorFailed for one that does not exist."""
        if not topics:
            return {}
        found = {each["name"]: each for each in self._admin.describe_topics(sorted(topics))}
        for topic in sorted(topics):
            error = for_code(found[topic]["error_code"]) if topic in found else UnknownTopicOrPartitionError
            if error is not NoError:
                raise ConnectorFailed(
                    f"topic {topic} of the agency's Kafka: {_WHY.get(error, error.__name__)}"
                )
        return {topic: str(found[topic]["topic_id"]) for topic in topics}

    def require_topics(self, topics: Collection[str], known: Mapping[str, str] | None = None) -> None:
        """Raises ConnectorFailed if one does not exist, or is another one than `known` says by its id."""
        for topic, topic_id in self.topic_ids(topics).items():
            if known is not None and known.get(topic, topic_id) != topic_id:
                raise ConnectorFailed(
                    f"topic {topic} of the agency's Kafka was deleted and made again; reading the new one"
                )

    def may(self, operation: Literal["READ", "WRITE"], topic: str) -> bool:
        """Whether the cluster's ACLs let this user; True where a cluster does not tell."""
        (found,) = self._admin.describe_topics([topic])
        permitted = found["authorized_operations"]
        return not permitted or operation in permitted or "ALL" in permitted

    def matching(self, pattern: str) -> list[str]:
        """Topics whose whole name matches."""
        return sorted(each for each in self._admin.list_topics() if re.match(pattern, each))

    def partitions(self, topics: Collection[str]) -> list[TopicPartition]:
        """Of all these, in order."""
        if not topics:
            return []
        return sorted(
            TopicPartition(each["name"], partition["partition_index"])
            for each in self._admin.describe_topics(sorted(topics))
            for partition in each["partitions"]
        )

    def members(self) -> int:
        """How many read in it."""
        found = self._patiently(lambda: self._admin.describe_groups([self.name]))
        return len(found[self.name]["members"])

    def begin_at_end(self, topics: Collection[str]) -> None:
        """Have a group that has committed nothing begin at the end of every partition there is now.

        Before anybody joins it: who has joined has done so already, and the cluster refuses it to others then.
        """
        if self.committed():
            return
        ends = {each: at.end for each, at in self.bounds(self.partitions(topics), stable=True).items()}
        try:
            self.alter(ends, self.topic_ids(topics))
        except GroupInUse:
            return

    def bounds(
        self, partitions: Collection[TopicPartition], *, stable: bool = False
    ) -> dict[TopicPartition, Bounds]:
        """What each of these holds. stable: up to the first transaction that is open."""
        if not partitions:
            return {}
        firsts = self._admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
        ends = self._admin.list_partition_offsets(
            dict.fromkeys(partitions, OffsetSpec.LATEST), isolation_level=level
        )
        return {each: Bounds(firsts[each].offset, ends[each].offset) for each in partitions}

    def committed(self) -> dict[TopicPartition, Committed]:
        """All that the group has committed."""
        found = self._patiently(lambda: self._admin.list_group_offsets({self.name: None})[self.name])
        return {each: Committed(at.offset, at.metadata or "") for each, at in found.items() if at.offset >= 0}

    def alter(self, offsets: Mapping[TopicPartition, int], topic_ids: Mapping[str, str]) -> None:
        """Commit for the group. Raises ConnectorFailed while somebody reads in it."""
        if offsets:
            self._require_done(
                self._admin.alter_group_offsets(self.name, stamped(offsets, topic_ids)).items()
            )

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Have the group know nothing of these. Raises ConnectorFailed while somebody reads in it."""
        if not partitions:
            return
        try:
            self._require_done(self._admin.delete_group_offsets(self.name, list(partitions)).items())
        except GroupIdNotFoundError:
            return  # it knows nothing at all
        except NonEmptyGroupError:
            raise self._in_use() from None

    def _patiently(self, ask: Callable[[], T]) -> T:
        """A cluster that was just started, or has lost a broker, knows no coordinator for a while."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except RetriableError:
                if time.monotonic() >= until_s:
                    raise
            time.sleep(PAUSE_S)

    def _require_done(self, results: Iterable[tuple[TopicPartition, type[Exception]]]) -> None:
        for partition, error in results:
            if error in _MEMBERS:
                raise self._in_use()
            if error is not NoError:
                raise ConnectorFailed(
                    f"{partition.topic}, partition {partition.partition}: {error.__name__}; nothing is known to have changed"
                )

    def _in_use(self) -> GroupInUse:
        return GroupInUse(
            f"consumer group {self.name} is in use; stop whoever reads in it, or wait for its session to end"
        )
