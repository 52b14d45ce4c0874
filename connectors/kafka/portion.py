"""What one transaction of a sink holds: whole batches of deliveries, as Kafka records, and what could not be written."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.delivery import Delivery, Start
from connectors.kafka.dead_letters import encode_letter
from connectors.kafka.destinations import NoDestination, agency_of
from connectors.kafka.encoding import Encoder, Outgoing, record_key
from connectors.mapping.record import AgencyRecord
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.refusals import Letter
from connectors.runtime.settings import OnError

TOO_LARGE = "RECORD_TOO_LARGE: larger than its topic takes (max.message.bytes)"
WITHDRAWN = "WITHDRAWN: its owner has withdrawn the record of this name; it is not to be written any more"
_REMEDY = "mend the cause, or choose on_error skip or dead-letter"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What becomes of records that cannot be written. connector: whose dead letters they are."""

    connector: str
    exchange_topic: str
    on_error: OnError
    dead_letter_topic: str | None


class RecordRefused(ConnectorFailed):
    """A record that cannot be written, where nothing else is to become of it."""


class Portion:
    """Encodes deliveries once. cursor: where the exchange goes on after them. id: by which it is known again."""

    def __init__(
        self, deliveries: Sequence[Delivery], cursor: Start, encoder: Encoder, treatment: Treatment
    ) -> None:
        """Raises RecordRefused."""
        self.cursor = cursor
        self.id = uuid.uuid4().hex
        self._treatment = treatment
        self._records: list[Outgoing] = []
        self._from: list[Delivery] = []
        self._letters: list[Outgoing] = []
        self.treated: list[Letter[AgencyRecord]] = []
        """Records that could not be written, and why."""
        for delivery in deliveries:
            try:
                encoded = encoder.encode(delivery)
            except NoDestination as refused:
                self._treat(delivery, encoder.without_destination(delivery), f"NO_DESTINATION: {refused}")
                continue
            for each in encoded:
                self._records.append(each)
                self._from.append(delivery)
            if delivery.withdrawal is not None:
                self._note_withdrawal(delivery)

    def records(self) -> Sequence[Outgoing]:
        """What to write, dead letters last."""
        return [*self._records, *self._letters]

    def refuse(self, at: Collection[int]) -> None:
        """Treat those of `records` as too large. Raises RecordRefused, and ConnectorFailed for a letter among them."""
        count = len(self._records)
        if any(each >= count for each in at):
            raise ConnectorFailed(
                f"topic {self._treatment.dead_letter_topic} does not take a dead letter; raise its max.message.bytes"
            )
        for each in sorted(at):
            self._treat(self._from[each], self._records[each], TOO_LARGE)
        self._from = [each for index, each in enumerate(self._from) if index not in at]
        self._records = [each for index, each in enumerate(self._records) if index not in at]

    def _treat(self, delivery: Delivery, outgoing: Outgoing, cause: str) -> None:
        chosen = self._treatment
        record = AgencyRecord(outgoing.key, outgoing.value, tuple(outgoing.headers))
        letter = Letter(record, cause, 1, origin_of(delivery, chosen.exchange_topic))
        if chosen.on_error == "dead-letter" and chosen.dead_letter_topic is not None:
            self._letters.append(as_dead_letter(letter, chosen.connector, chosen.dead_letter_topic))
        elif chosen.on_error != "skip":
            raise RecordRefused(f"{letter.place}: {cause}; {_REMEDY}")
        self.treated.append(letter)

    def _note_withdrawal(self, delivery: Delivery) -> None:
        """Among the dead letters, so that none of a withdrawn record is ever tried again."""
        chosen = self._treatment
        if chosen.on_error == "dead-letter" and chosen.dead_letter_topic is not None:
            note = Letter(AgencyRecord(None, b""), WITHDRAWN, 1, origin_of(delivery, chosen.exchange_topic))
            self._letters.append(as_dead_letter(note, chosen.connector, chosen.dead_letter_topic))


def as_dead_letter(letter: Letter[AgencyRecord], connector: str, topic: str) -> Outgoing:
    """The Kafka record that keeps a letter."""
    kept = encode_letter(letter, connector, datetime.now(UTC))
    headers = [(name, value) for name, value in kept.headers if value is not None]
    return Outgoing(topic, kept.key, kept.value, headers, letter.origin.get("record", "").encode())


def origin_of(delivery: Delivery, exchange_topic: str) -> dict[str, str]:
    """Where a delivery is from; its record is named by a hash, so that this may be shown."""
    told = delivery.record or delivery.withdrawal
    if told is None:
        return {"topic": exchange_topic}
    name = hashlib.sha256(record_key(told.source, told.id)).hexdigest()[:32]
    agency = agency_of(told.source)
    return {"topic": exchange_topic, "type": told.type, "source_agency": agency, "record": name}
