"""Topics and offsets, asked of the cluster in one thread off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    UnknownBrokerIdError,
    UnknownTopicOrPartitionError,
)

from broker.adapters.kafka.connection import MAX_RECORD_BYTES, KafkaConnection
from broker.errors import StorageUnavailable

T = TypeVar("T")

KEEP_FOR_GOOD = "-1"

_PAUSE_S = 0.1
"""Between attempts while no node is connected; the client reconnects within a second of a node's return."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What the cluster says of a topic; `incarnation` is its topic id (KIP-516), 16 bytes."""

    name: str
    partitions: int
    incarnation: bytes


class ClusterAdmin:
    """A lazily made admin client in a thread of its own. Every method raises StorageUnavailable."""

    def __init__(self, connection: KafkaConnection, *, timeout_s: float = 15.0) -> None:
        self.connection = connection
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, "kafka-admin")
        self._client: Any = None
        self._closed = threading.Event()

    async def call(self, ask: Callable[[Any], T]) -> T:
        """Run `ask(client)` in the admin thread."""
        if self._closed.is_set():
            raise StorageUnavailable("the Kafka store is closed")
        give_up_at_s = time.monotonic() + self._timeout_s
        asked = asyncio.get_running_loop().run_in_executor(self._thread, self._run, ask, give_up_at_s)
        try:
            # Not `wait_for`: before Python 3.12 that loses a cancellation that comes with the answer, and so callers' ends.
            async with asyncio.timeout(self._timeout_s):
                return await asked
        except TimeoutError as error:
            raise StorageUnavailable(f"Kafka did not answer within {self._timeout_s:.0f} s") from error
        except (KafkaError, OSError) as error:
            raise StorageUnavailable(f"Kafka refused or failed: {type(error).__name__}") from error

    async def ensure_topic(self, name: str, partitions: int, settings: Mapping[str, str]) -> TopicInfo:
        """Create the topic if it is absent, else set what differs of `settings`.

        Raises ValueError if it exists with another number of partitions.
        """
        found = await self.call(
            lambda client: _ensure(client, name, self._options(partitions, settings), settings)
        )
        if found.partitions != partitions:
            raise ValueError(
                f"topic '{name}' has {found.partitions} partitions, not {partitions}; counts never change"
            )
        return found

    async def find_topic(self, name: str) -> TopicInfo | None:
        """The topic as it is now, or None."""
        return await self.call(lambda client: _find(client, name))

    async def offsets(self, topic: str, partitions: int, at: int | OffsetSpec) -> tuple[int, ...]:
        """An offset of each partition: the earliest, the latest, or the first at a time in ms (-1 if there is none)."""
        asked = {TopicPartition(topic, number): at for number in range(partitions)}
        answer = await self.call(lambda client: client.list_partition_offsets(dict(asked)))
        return tuple(answer[place].offset for place in asked)

    async def close(self) -> None:
        """Close the client and end its thread; idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown(wait=True)

    def _options(self, partitions: int, settings: Mapping[str, str]) -> dict[str, object]:
        fixed = {
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
        }
        if self.connection.min_in_sync is not None:
            fixed["min.insync.replicas"] = str(self.connection.min_in_sync)
        return {
            "num_partitions": partitions,
            "replication_factor": self.connection.replication,
            "configs": fixed | dict(settings),
        }

    def _run(self, ask: Callable[[Any], T], give_up_at_s: float) -> T:
        while True:
            if self._closed.is_set():
                raise StorageUnavailable("the Kafka store is closed")
            if self._client is None:
                self._client = self.connection.admin()
            try:
                return ask(self._client)
            except (NodeNotReadyError, KafkaConnectionError, UnknownBrokerIdError):
                # This client refuses at once while it waits to reconnect, when producers may be back already, or has just
                # forgotten the nodes of a cluster that starts again. All that is asked here may be asked twice.
                if time.monotonic() >= give_up_at_s:
                    raise
                self._closed.wait(_PAUSE_S)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()


def _ensure(client: Any, name: str, options: Mapping[str, object], settings: Mapping[str, str]) -> TopicInfo:
    found = _find(client, name)
    if found is not None:
        _set(client, name, settings)
        return found
    with contextlib.suppress(TopicAlreadyExistsError):  # another instance was quicker
        client.create_topics({name: dict(options)})
    client.wait_for_topics([name])
    return _describe(client, name)


def _find(client: Any, name: str) -> TopicInfo | None:
    with contextlib.suppress(UnknownTopicOrPartitionError):
        return _describe(client, name)
    return None


def _set(client: Any, name: str, settings: Mapping[str, str]) -> None:
    """Change only what differs: the right to alter topics is then not needed in normal running."""
    answer = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    present = answer["topic"][name]
    differing = {key: value for key, value in settings.items() if present.get(key, {}).get("value") != value}
    if differing:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, differing)])


def _describe(client: Any, name: str) -> TopicInfo:
    (topic,) = client.describe_topics([name])
    if topic["error_code"] != 0:
        raise UnknownTopicOrPartitionError(name)
    return TopicInfo(name, len(topic["partitions"]), uuid.UUID(topic["topic_id"]).bytes)
