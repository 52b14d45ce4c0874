"""Makes a ledger's witnesses from the configuration; an adapter is imported only when it is used."""

from __future__ import annotations

from collections.abc import Sequence

from broker.adapters.clock import SystemClock
from broker.app.ledger_sections import LedgerWitness
from broker.core.checkpoint.note import VerifierKey
from broker.ports.clock import Clock
from broker.ports.witness import Witness


def open_witnesses(settings: Sequence[LedgerWitness], clock: Clock | None = None) -> list[Witness]:
    """The witnesses in the configuration's order; each connects when it is first used.

    Raises KeysRefused for a password file that others may read, ValueError for a section that was not validated.
    """
    return [_open(each, clock or SystemClock()) for each in settings]


def _open(settings: LedgerWitness, clock: Clock) -> Witness:
    if settings.kind == "file" and settings.path is not None:
        from broker.adapters.witness.file import FileWitness

        return FileWitness(settings.name, settings.path, clock)
    if settings.kind == "kafka" and settings.kafka is not None and settings.topic is not None:
        from broker.adapters.witness.kafka import KafkaWitness
        from broker.app.kafka_stores import kafka_connection

        connection = kafka_connection(settings.kafka)
        topic = connection.topic(settings.topic)
        return KafkaWitness(settings.name, connection, topic, clock, timeout_s=settings.timeout_s)
    if settings.kind == "http" and settings.url is not None and settings.vkey is not None:
        from broker.adapters.witness.http import HttpSettings, HttpWitness

        key = VerifierKey.parse(settings.vkey)
        http = HttpSettings(settings.url, key, settings.ca_file, settings.timeout_s)
        return HttpWitness(settings.name, http)
    raise ValueError(f"the witness {settings.name} lacks what its kind needs")
