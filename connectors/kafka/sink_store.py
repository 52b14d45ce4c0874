"""Where a Kafka sink keeps what it takes: in Kafka, in the store's own thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from connectors.delivery import Delivery, Start
from connectors.kafka.encoding import Encoder
from connectors.kafka.exactly_once import ExactlyOnce
from connectors.kafka.portion import Portion, RecordRefused, Treatment
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.thread import ClientThread
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.progress import Progress

log = logging.getLogger(__name__)


class KafkaStore:
    """As SinkStore, over a store that is open in that thread."""

    def __init__(
        self,
        settings: KafkaSinkSettings,
        treatment: Treatment,
        once: ExactlyOnce,
        thread: ClientThread,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._treatment = treatment
        self._once = once
        self._thread = thread
        self._progress = progress
        self._encoder = Encoder(settings)

    @property
    def place(self) -> Start | None:
        """As SinkStore.place. Raises ConnectorFailed if something else is kept under the connector's key."""
        if self._once.damaged:
            raise no_place(self._settings)
        return self._once.place

    async def store(self, batches: Sequence[Delivery], cursor: bytes) -> int:
        """As SinkStore.store: in one transaction."""
        try:
            portion = await self._thread.call(self._stored, batches, cursor)
        except RecordRefused:
            self._progress.failed += 1
            raise
        self._tell(portion)
        return len(portion.treated)

    async def move(self, cursor: bytes) -> None:
        """As SinkStore.move."""
        await self._thread.call(self._stored, (), cursor)

    async def look(self) -> None:
        """Nothing of a sink to Kafka depends on time."""

    async def still_own(self) -> None:
        """As SinkStore.still_own."""
        await self._thread.call(self._once.still_owner)

    def _stored(self, batches: Sequence[Delivery], cursor: bytes) -> Portion:
        portion = Portion(batches, cursor, self._encoder, self._treatment)
        self._once.store(portion)
        return portion

    def _tell(self, portion: Portion) -> None:
        chosen = self._treatment
        if chosen.on_error == "skip":
            self._progress.skipped += len(portion.treated)
        else:
            self._progress.dead_lettered += len(portion.treated)
        for letter in portion.treated:
            log.warning(
                "connector %s: %s at %s: %s", chosen.connector, chosen.on_error, letter.place, letter.cause
            )


def no_place(settings: KafkaSinkSettings) -> ConnectorFailed:
    """What is kept under the connector's key was written by something else."""
    topic = settings.write.cursor_topic
    return ConnectorFailed(f"topic {topic} holds no place of the connector; alter its offsets", lasting=True)
