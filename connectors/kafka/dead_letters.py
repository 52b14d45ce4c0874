"""Dead letters in a topic of the agency's own cluster: the record untouched, and behind its headers what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError

from connectors.kafka.connection import Cluster
from connectors.kafka.thread import ClientThread, kafka_failure
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.refusals import Letter

PREFIX = "entente.dead-letter."
_FIRST = PREFIX + "cause"
_OWN = frozenset({"cause", "attempt", "connector", "time", "incarnation", "null"})
_DELIVERY_S = 60.0
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class LetterRead:
    """A dead letter as it was found; connector: whose it is."""

    letter: Letter[AgencyRecord]
    connector: str


def encode_letter(letter: Letter[AgencyRecord], connector: str, now: datetime) -> AgencyRecord:
    """The Kafka record that keeps it: key, value and headers untouched, then headers `entente.dead-letter.*`.

    `cause` is the first of those, and all that follow are ours, whatever a producer has named its own. `null` names what
    was null and is empty here, since kafka-python sends neither headers without value nor records without key and value.
    """
    record = letter.record
    nulls = [str(at) for at, (_, value) in enumerate(record.headers) if value is None]
    nulls += ["value"] if record.key is None and record.value is None else []
    told = {
        "cause": letter.cause,
        "attempt": str(letter.attempt),
        "connector": connector,
        "time": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "incarnation": record.incarnation,
        "null": ",".join(nulls),
        **letter.origin,
    }
    kept = [(name, value or b"") for name, value in record.headers]
    added = [(PREFIX + name, text.encode()) for name, text in told.items()]
    return record._replace(value=b"" if "value" in nulls else record.value, headers=(*kept, *added))


def decode_letter(record: AgencyRecord) -> LetterRead | None:
    """The letter that a record keeps, its record as it was first read; None if it keeps none."""
    headers = list(record.headers)
    told: dict[str, str] = {}
    for at in range(len(headers) - 1, -1, -1):
        name, value = headers[at]
        if not name.startswith(PREFIX):
            return None
        told[name.removeprefix(PREFIX)] = (value or b"").decode("utf-8", "replace")
        if name == _FIRST:
            return _letter(record, headers[:at], told)
    return None


def _letter(
    record: AgencyRecord, headers: list[tuple[str, bytes | None]], told: dict[str, str]
) -> LetterRead | None:
    attempt = told.get("attempt", "")
    if "connector" not in told or not attempt.isascii() or not attempt.isdigit() or len(attempt) > 9:
        return None
    nulls = set(told.get("null", "").split(","))
    origin = {name: told[name] for name in reversed(told) if name not in _OWN}
    original = AgencyRecord(
        record.key,
        None if "value" in nulls else record.value,
        tuple((name, None if str(at) in nulls else value) for at, (name, value) in enumerate(headers)),
        record.timestamp_ms,
        origin,
        told.get("incarnation", ""),
    )
    return LetterRead(Letter(original, told["cause"], int(attempt), origin), told["connector"])


class DeadLetterTopic:
    """Keeps dead letters in a topic; the producer is made with the first of them."""

    def __init__(self, connector: str, cluster: Cluster, topic: str) -> None:
        self._connector = connector
        self._cluster = cluster
        self._topic = topic
        self._thread = ClientThread(f"dead-letters-{connector}", cluster)
        self._producer: Any = None

    async def put(self, letters: Sequence[Letter[AgencyRecord]]) -> None:
        """Keep them; returns when all in-sync replicas have them. Raises ConnectorFailed: nothing may be given up then."""
        now = datetime.now(UTC)
        await self._thread.call(
            self._send, [(each, encode_letter(each, self._connector, now)) for each in letters]
        )

    async def close(self) -> None:
        """Close the producer, if there is one."""
        try:
            await self._thread.call(self._close)
        finally:
            self._thread.end()

    def _send(self, letters: Sequence[tuple[Letter[AgencyRecord], AgencyRecord]]) -> None:
        if self._producer is None:
            self._producer = self._cluster.producer(client_id=f"entente-{self._connector}")
        try:
            sent = [(letter, self._sent(letter, message)) for letter, message in letters]
            for letter, future in sent:
                self._landed(letter, future)
        except ConnectorFailed:
            # An idempotent producer that has failed may refuse all that comes later: the next one is a new one.
            self._close()
            raise

    def _sent(self, letter: Letter[AgencyRecord], message: AgencyRecord) -> Any:
        try:
            return self._producer.send(
                self._topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
                timestamp_ms=message.timestamp_ms,
            )
        except KafkaError as error:
            raise self._failed(letter, error) from None

    def _landed(self, letter: Letter[AgencyRecord], future: Any) -> None:
        try:
            future.get(timeout=_DELIVERY_S)
        except KafkaError as error:
            raise self._failed(letter, error) from None

    def _failed(self, letter: Letter[AgencyRecord], error: KafkaError) -> ConnectorFailed:
        if isinstance(error, MessageSizeTooLargeError):
            return ConnectorFailed(
                f"{letter.place}: is too large for the dead-letter topic {self._topic}; raise its max.message.bytes"
            )
        told = kafka_failure(error, self._cluster)
        return ConnectorFailed(f"dead-letter topic {self._topic}: {told.cause}")

    def _close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close(timeout=_CLOSE_S)
