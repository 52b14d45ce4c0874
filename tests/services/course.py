"""A way from one agency's Kafka over an exchange into another agency's, and what has to be true at its end."""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.agency_kafka import arrived, create_topics
from tests.services.agency_records import MAPPING, SECRET, Made, check_arrived, entitled_among
from tests.services.broker import BrokerProcess
from tests.services.connect import ConnectProcess, Table, TokenFile, on_loopback
from tests.services.evidence import Auditor
from tests.services.kafka_topics import stored_records


@dataclass
class Course:
    """Two agencies' clusters with their topics, the exchange between them, and a source and a sink, not started."""

    broker: BrokerProcess
    sending: str
    receiving: str
    source: ConnectProcess
    sink: ConnectProcess
    topics: Topics
    tokens: Mapping[str, TokenFile]
    _others: list[ConnectProcess] = field(default_factory=list)

    def start(self) -> None:
        """Both connectors."""
        self.source.start()
        self.sink.start()

    def beside(self) -> ConnectProcess:
        """A second process of the same source, in the same consumer group; not started."""
        table = tomllib.loads(self.source.file.read_text())["connectors"]
        second = ConnectProcess(self.source.directory.with_name("beside"), table)
        self._others.append(second)
        return second

    def kill(self) -> None:
        """Whatever of it runs still."""
        for process in (self.source, self.sink, *self._others):
            if process.running:
                process.kill()

    def stop(self) -> None:
        """Both, in order: each has to drain."""
        assert self.source.stop() == 0, self.source.log()[-2000:]
        assert self.sink.stop() == 0, self.sink.log()[-2000:]


@dataclass(frozen=True)
class Topics:
    """Names that no other test uses."""

    sent: str
    dead_letters: str
    received: str
    cursors: str

    @classmethod
    def new(cls) -> Topics:
        """Of a random suffix."""
        suffix = uuid.uuid4().hex[:8]
        return cls(*(f"{name}.{suffix}" for name in ("kev", "kev.dead-letters", "received", "cursors")))

    def create(self, sending: str, receiving: str) -> None:
        """In both clusters; three partitions each, with room for the largest record."""
        largest = str(16 * 1024 * 1024)
        create_topics(sending, {self.sent: 3, self.dead_letters: 1}, max_message_bytes=largest)
        create_topics(receiving, {self.received: 3}, max_message_bytes=largest)
        create_topics(receiving, {self.cursors: 1}, cleanup_policy="compact")


def source_of(token: TokenFile, sending: str, topics: Topics) -> Table:
    """cyber-centre's."""
    return {
        "plugin": "kafka-source",
        "topic": "vulnerabilities",
        "on_error": "dead-letter",
        "exchange": token.exchange(),
        "kafka": on_loopback(sending),
        "read": {
            "topics": [topics.sent],
            "dead_letter_topic": topics.dead_letters,
            # A process that was killed lets go of its partitions no earlier.
            "session_timeout_s": 6,
        },
        "map": MAPPING,
    }


def sink_of(token: TokenFile, receiving: str, topics: Topics) -> Table:
    """partner-cert's; one key's records keep their order, since they share a partition."""
    return {
        "plugin": "kafka-sink",
        "topic": "vulnerabilities",
        "purpose": "cyber-defence",
        "exchange": token.exchange(),
        "kafka": on_loopback(receiving),
        "write": {"topic": topics.received, "cursor_topic": topics.cursors, "key": "subject"},
    }


def prepare(broker: BrokerProcess, directory: Path, sending: str, receiving: str) -> Course:
    """Topics and connectors between two clusters, over a running exchange."""
    topics = Topics.new()
    topics.create(sending, receiving)
    tokens = {name: TokenFile(broker, name) for name in ("cyber-centre", "partner-cert")}
    source = source_of(tokens["cyber-centre"], sending, topics)
    sink = sink_of(tokens["partner-cert"], receiving, topics)
    return Course(
        broker,
        sending,
        receiving,
        ConnectProcess(directory / "source", {"source": source}),
        ConnectProcess(directory / "sink", {"sink": sink}),
        topics,
        tokens,
    )


def check_all(course: Course, made: Made, count: int) -> None:
    """What has to be true of stopped connectors after so many records."""
    entitled = entitled_among(made, count)
    assert check_arrived(made, count, arrived(course.receiving, course.topics.received)) == entitled
    wanted = {record.value for record in made.records(0, count) if record.kind != "record"}
    letters = list(stored_records(course.sending, course.topics.dead_letters))
    # After a kill a letter may be written again: the offset behind it had not been committed.
    assert {letter.value for letter in letters} == wanted
    for letter in letters:
        told = dict(letter.headers)
        assert told["entente.dead-letter.topic"] == course.topics.sent.encode()
        assert SECRET.encode() not in told["entente.dead-letter.cause"]
    for process in (course.source, course.sink):
        assert SECRET not in process.log()
    Auditor.of(course.broker).verified()
