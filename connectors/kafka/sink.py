"""From a topic of the exchange into the agency's Kafka, exactly once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

from connectors.client import Client
from connectors.errors import EntenteClientError
from connectors.kafka.connection import Cluster
from connectors.kafka.cursors import CursorTopic
from connectors.kafka.encoding import Encoder
from connectors.kafka.exactly_once import ExactlyOnce, Ownership
from connectors.kafka.portion import Portion, Treatment
from connectors.kafka.sink_check import sink_findings
from connectors.kafka.sink_redrive import SinkRedrive
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.sink_store import KafkaStore, no_place
from connectors.kafka.thread import ClientThread
from connectors.kafka.transactions import TransactionalWriter, Unsettled
from connectors.runtime.model import ConnectorFailed, Direction, Offset, Redriven
from connectors.runtime.places import decode_place, encode_place
from connectors.runtime.plugin import Connector, TaskContext
from connectors.runtime.settings import ConnectorSettings
from connectors.runtime.sink import SinkRun, Window
from connectors.runtime.takeovers import Takeovers

_CLOSE_S = 5.0
_WINDOW = Window(records=4_000)


class KafkaSink:
    """One configured sink."""

    def __init__(self, name: str, settings: KafkaSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self._subscription = settings.subscription_of(name)
        self._identity = f"entente-connect.{name}.{self._subscription}"
        self._ownership = Ownership(uuid.uuid4().hex)
        self._takeovers = Takeovers()
        self._treatment = Treatment(name, settings.topic, settings.on_error, settings.write.dead_letter_topic)

    @property
    def tasks(self) -> int:
        """One: a subscription has one position."""
        return 1

    async def run(self, task: TaskContext) -> None:
        """As Connector.run."""
        cluster = self._settings.kafka.cluster()
        thread = ClientThread(f"sink-{self._name}", cluster)
        store = self._store(cluster, task)
        try:
            await thread.call(self._begin, cluster, store)
            kept = KafkaStore(self._settings, self._treatment, store, thread, task.progress)
            name, takeovers = self._subscription, self._takeovers
            await SinkRun(task, self._settings, name, kept, _WINDOW, takeovers).run()
        finally:
            await _closed(store, thread)

    async def check(self, exchange: Client) -> Sequence[str]:
        """As Connector.check."""
        return await sink_findings(self._name, self._settings, self._identity, exchange)

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        """Where Kafka says that it stands."""
        cluster = self._settings.kafka.cluster()
        thread = ClientThread(f"sink-{self._name}", cluster)
        try:
            places = self._places(cluster)
            await thread.call(places.prepare, create=False)
            kept = await thread.call(places.read)
        finally:
            thread.end()
        if kept.damaged:
            raise no_place(self._settings)
        place = kept.place
        return [Offset(self._partition, None if place is None else encode_place(place))]

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        """A cursor of the subscription, or {"from": earliest, latest or a time}; None: where a new one begins."""
        if len(offsets) != 1 or offsets[0].partition != self._partition:
            raise ValueError(f"give one offset, of the partition {dict(self._partition)}")
        wished = offsets[0].offset
        place = self._settings.start if wished is None else decode_place(wished)
        if isinstance(place, bytes):
            await self._require_own(exchange, place)
        cluster = self._settings.kafka.cluster()
        thread = ClientThread(f"sink-{self._name}", cluster)
        # Somebody decided so, whoever has run it before.
        self._ownership.claimed = False
        store = self._store(cluster, None)
        try:
            await thread.call(self._begin, cluster, store)
            await thread.call(store.store, Portion([], place, Encoder(self._settings), self._treatment))
        finally:
            await _closed(store, thread)

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        """Write its dead letters to where they belong."""
        cluster = self._settings.kafka.cluster()
        thread = ClientThread(f"redrive-{self._name}", cluster)
        again = SinkRedrive(self._name, self._settings, self._identity, cluster)
        try:
            return await thread.call(again.run, most)
        finally:
            again.abandon()
            thread.end()

    @property
    def _partition(self) -> dict[str, str]:
        return {"subscription": self._subscription, "topic": self._settings.topic}

    def _places(self, cluster: Cluster) -> CursorTopic:
        return CursorTopic(cluster, self._settings.write.cursor_topic, self._identity)

    def _store(self, cluster: Cluster, task: TaskContext | None) -> ExactlyOnce:
        def make() -> TransactionalWriter:
            create = self._settings.write.create_topics
            return TransactionalWriter(cluster, self._identity, create_topics=create)

        def retried() -> None:
            if task is not None:
                task.progress.retries += 1

        retry = self._settings.retry.policy()
        return ExactlyOnce(make, self._places(cluster), self._ownership, retry, retried)

    def _begin(self, cluster: Cluster, store: ExactlyOnce) -> None:
        self._places(cluster).prepare(create=self._settings.write.create_topics)
        try:
            store.open()
        except Unsettled as unsettled:
            raise ConnectorFailed(
                f"Kafka did not take a transaction: {unsettled.cause}; see its log"
            ) from None

    async def _require_own(self, exchange: Client, cursor: bytes) -> None:
        """Raises ValueError for a cursor that the exchange does not take."""
        name, settings = self._subscription, self._settings
        try:
            try:
                await exchange.seek_subscription(name, cursor)
            except EntenteClientError as missing:
                if missing.reason != "SUBSCRIPTION_NOT_FOUND":
                    raise
                await exchange.create_subscription(name, settings.topic, settings.purpose, cursor)
        except EntenteClientError as error:
            if error.reason != "CURSOR_INVALID":
                raise
            raise ValueError("the cursor is of another subscription, principal or topic") from None


async def _closed(store: ExactlyOnce, thread: ClientThread) -> None:
    """Also when it is cancelled: what blocks in the thread is told to end, and ends by itself."""
    store.abandon()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await thread.call(store.close)
    except TimeoutError:
        pass
    finally:
        thread.end()


class _KafkaSinkPlugin:
    """As Plugin."""

    @property
    def direction(self) -> Direction:
        """Fetches records."""
        return "sink"

    @property
    def settings(self) -> type[ConnectorSettings]:
        """As KafkaSinkSettings."""
        return KafkaSinkSettings

    def make(self, name: str, settings: KafkaSinkSettings, directory: Path) -> Connector:
        """A sink remembers nothing on disk: what it must know is in Kafka."""
        return KafkaSink(name, settings)


PLUGIN = _KafkaSinkPlugin()
