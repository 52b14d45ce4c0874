"""The plugin `kafka-source`: an agency's Kafka to the exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from connectors.client import Client
from connectors.kafka.connection import Cluster
from connectors.kafka.dead_letters import DeadLetterTopic
from connectors.kafka.group import Group
from connectors.kafka.reader import Reader
from connectors.kafka.redrive import Redrive
from connectors.kafka.source_check import cluster_findings, exchange_findings
from connectors.kafka.source_offsets import asked_positions, read_offsets, write_offsets
from connectors.kafka.source_settings import KafkaSourceSettings
from connectors.kafka.source_task import SourceTask
from connectors.kafka.thread import ClientThread
from connectors.kafka.treating import Publishing, Treatment
from connectors.mapping.mapper import Mapper
from connectors.runtime.model import ConnectorFailed, Direction, Offset, Redriven
from connectors.runtime.plugin import TaskContext
from connectors.runtime.refusals import Refusals
from connectors.runtime.settings import ConfigurationRefused

P = ParamSpec("P")
T = TypeVar("T")


class KafkaSource:
    """One configured connector."""

    def __init__(self, name: str, settings: KafkaSourceSettings) -> None:
        self._name = name
        self._settings = settings
        self._group = settings.read.group or f"entente-{name}"
        self._mapper = Mapper(settings.map)

    @property
    def tasks(self) -> int:
        """Consumers of the group in this process."""
        return self._settings.tasks

    async def run(self, task: TaskContext) -> None:
        """Read, publish and commit until the gate says stop."""
        cluster = self._cluster()
        letters = self._dead_letters(cluster)
        try:
            await self._require_own_source(task.exchange)
            reader = Reader(
                f"entente-{self._name}-{task.number}", cluster, self._settings.read, self._group, self._mapper
            )
            refusals = Refusals(self._name, self._settings.on_error, letters, task.progress)
            await SourceTask(task, reader, Treatment(self._publishing(task), refusals)).run()
        finally:
            if letters is not None:
                await letters.close()

    async def check(self, exchange: Client) -> Sequence[str]:
        """What would keep it from working: the exchange's part, then the cluster's."""
        findings = await exchange_findings(exchange, self._settings.topic, self._mapper)
        try:
            return [*findings, *await self._in_group(cluster_findings, self._settings)]
        except ConfigurationRefused as error:
            return [*findings, *error.findings]
        except (ConnectorFailed, OSError) as error:
            return [*findings, f"kafka: {error}"]

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        """What the group has committed, for each partition of its topics."""
        return await self._in_group(read_offsets, self._settings.read)

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        """Commit other offsets for the group, or have it forget some. Raises ValueError for what is no offset of it."""
        asked = asked_positions(offsets)
        await self._in_group(write_offsets, self._settings.read, asked)

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        """Publish dead letters that are its own; those that are refused again are kept again, behind the others."""
        topic = self._settings.read.dead_letter_topic
        if topic is None:
            raise ConnectorFailed(
                "read.dead_letter_topic is not set; there are no dead letters", lasting=True
            )
        cluster = self._cluster()
        letters = DeadLetterTopic(self._name, cluster, topic)
        redrive = Redrive(self._name, cluster, topic, f"{self._group}-redrive", self._mapper)
        try:
            return await redrive.run(task, self._publishing(task), letters, most)
        finally:
            await letters.close()

    def _cluster(self) -> Cluster:
        return self._settings.kafka.cluster()

    async def _in_group(
        self, function: Callable[Concatenate[Group, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What a blocking function finds in the connector's group."""
        cluster = self._cluster()
        thread = ClientThread(f"group-{self._name}", cluster)

        def found() -> T:
            with closing(Group.open(cluster, self._group)) as group:
                return function(group, *args, **kwargs)

        try:
            return await thread.call(found)
        finally:
            thread.end()

    def _dead_letters(self, cluster: Cluster) -> DeadLetterTopic | None:
        topic = self._settings.read.dead_letter_topic
        if self._settings.on_error != "dead-letter" or topic is None:
            return None
        return DeadLetterTopic(self._name, cluster, topic)

    def _publishing(self, task: TaskContext) -> Publishing:
        return Publishing(task.exchange, self._settings.topic, self._settings.retry.policy(), task.progress)

    async def _require_own_source(self, exchange: Client) -> None:
        findings = self._mapper.source_findings((await exchange.who_am_i()).agency)
        if findings:
            raise ConnectorFailed("; ".join(findings), lasting=True)


class KafkaSourcePlugin:
    """What the entry point names."""

    @property
    def direction(self) -> Direction:
        """To the exchange."""
        return "source"

    @property
    def settings(self) -> type[KafkaSourceSettings]:
        """The keys of its table."""
        return KafkaSourceSettings

    def make(self, name: str, settings: KafkaSourceSettings, directory: Path) -> KafkaSource:
        """A connector; it keeps nothing on disk, since its group's offsets are in Kafka."""
        return KafkaSource(name, settings)


PLUGIN = KafkaSourcePlugin()
