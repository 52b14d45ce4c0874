"""The cluster on which the exchange keeps its stores, and the names of the topics that it owns there."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.kafka.connection import MAX_RECORD_BYTES, REQUEST_TIMEOUT_MS, Cluster

__all__ = ["MAX_RECORD_BYTES", "REQUEST_TIMEOUT_MS", "KafkaConnection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection(Cluster):
    """A cluster on which `prefix` begins the name of each topic that the exchange owns.

    `replication` and, if given, `min_in_sync` are for the topics that are created here.
    """

    prefix: str = "entente"
    replication: int = 3
    min_in_sync: int | None = None

    def topic(self, *parts: str) -> str:
        """The Kafka name of one of the exchange's topics."""
        return ".".join((self.prefix, *parts))
