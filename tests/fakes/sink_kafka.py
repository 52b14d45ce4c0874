"""As much of a Kafka cluster as exactly-once rests on: transactions of fenced writers, and what is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from connectors.delivery import Delivery, Start
from connectors.kafka.cursors import Kept
from connectors.kafka.encoding import Encoder, Outgoing
from connectors.kafka.portion import Portion, Treatment
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.transactions import TooLarge, Unsettled
from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

PLACE, CLAIM = "place", "claim"


class Killed(Exception):
    """The process ends here, as with kill -9."""


@dataclass
class FakeKafka:
    """Committed records in order, and how the coming operations end: see `FakeWriter`."""

    ends: list[str] = field(default_factory=list)
    log: list[Outgoing] = field(default_factory=list)
    epoch: int = 0
    kept: Kept = field(default_factory=Kept)
    largest_bytes: int = 1 << 20
    before_write: Callable[[], None] = lambda: None

    def next_end(self) -> str:
        return self.ends.pop(0) if self.ends else "well"

    def records(self, topic: str) -> list[Outgoing]:
        return [each for each in self.log if each.topic == topic]

    def commit(self, records: Iterable[Outgoing], places: FakePlaces) -> None:
        for record in records:
            if record.topic == PLACE:
                place, portion = places.placed[record.key or b""]
                self.kept = Kept(place, portion, self.kept.owner)
            elif record.topic == CLAIM:
                self.kept = Kept(self.kept.place, self.kept.portion, (record.value or b"").decode())
            else:
                self.log.append(record)


class FakePlaces:
    """The Places of one process."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.placed: dict[bytes, tuple[Start, str]] = {}

    def place(self, place: Start, portion: str = "") -> Outgoing:
        key = f"{place!r} {portion}".encode()
        self.placed[key] = (place, portion)
        return Outgoing(PLACE, key, b"", [])

    def claim(self, instance: str) -> Outgoing:
        return Outgoing(CLAIM, b"", instance.encode(), [])

    def read(self, upto: int | None = None) -> Kept:
        return self.kafka.kept


class FakeWriter:
    """Ends of a write: well; lost: not committed; unknown: committed without an answer; and a kill before or after it."""

    def __init__(self, kafka: FakeKafka, places: FakePlaces) -> None:
        self.kafka = kafka
        self.places = places
        self.epoch = -1
        self.closed = False
        self.abandoned = False

    def open(self) -> None:
        self.kafka.epoch += 1
        self.epoch = self.kafka.epoch

    def write(self, records: Sequence[Outgoing], *, alone: bool = False) -> int:
        assert not self.closed
        self.kafka.before_write()
        end = self.kafka.next_end()
        if end == "killed before":
            raise Killed
        if self.epoch != self.kafka.epoch:
            raise Unsettled("ProducerFencedError")
        too_large = [
            index for index, each in enumerate(records) if len(each.value or b"") > self.kafka.largest_bytes
        ]
        if too_large:
            raise TooLarge(frozenset(too_large))
        if end == "lost":
            raise Unsettled("KafkaTimeoutError")
        self.kafka.commit(records, self.places)
        if end == "unknown":
            raise Unsettled("KafkaTimeoutError")
        if end == "killed after":
            raise Killed
        return len(self.kafka.log)

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.abandoned = True


def sink_settings(
    *, on_error: str = "fail", subscription: str = "intake", **write: object
) -> KafkaSinkSettings:
    """Of a sink that writes to `in` unless told otherwise."""
    return KafkaSinkSettings.model_validate(
        {
            "plugin": "kafka-sink",
            "exchange": {"endpoint": "exchange.example:7443", "token_env": "TOKEN"},
            "topic": "crash-reports",
            "purpose": "care",
            "on_error": on_error,
            "subscription": subscription,
            "kafka": {"bootstrap": ["kafka.example:9093"], "tls": True},
            "retry": {"attempts": 4, "first_s": 0.0001, "longest_s": 0.0001},
            "write": {"topic": "in", "notice_topic": "notices", "dead_letter_topic": "dead", **write},
        }
    )


def delivered(record: CloudEvent, *, cursor: bytes = b"c", ends_batch: bool = True) -> Delivery:
    """A record as the exchange hands it out."""
    shown = pb.Disclosure(effect=pb.EFFECT_RELEASE, masked=["criminal", "pii"], obligations=["no-copy"])
    return Delivery(
        record, None, None, shown, cursor, record.ByteSize(), 1, b"receipt", ends_batch=ends_batch
    )


def portion_of(
    deliveries: Sequence[Delivery], settings: KafkaSinkSettings, cursor: Start | None = None
) -> Portion:
    """All of them in one transaction."""
    write = settings.write
    treatment = Treatment("intake", settings.topic, settings.on_error, write.dead_letter_topic)
    return Portion(deliveries, cursor or deliveries[-1].cursor, Encoder(settings), treatment)
