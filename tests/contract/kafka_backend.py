"""The contract suites on the session's Kafka node, each test under a topic prefix of its own."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.control import KafkaControlLog
from broker.adapters.kafka.ledger import KafkaLedgerLog
from broker.adapters.kafka.ledger_reader import KafkaLedgerReader
from broker.adapters.kafka.ledger_records import checkpoint_message
from broker.adapters.kafka.record_log import KafkaRecordLog
from broker.adapters.kafka.record_reader import KafkaRecordReader
from broker.adapters.kafka.rulebook_store import KafkaRulebookStore, encode_revision
from broker.adapters.kafka.subscription_store import KafkaSubscriptionStore
from broker.core.control.seal import ControlSeal
from broker.core.ledger.writer import LedgerWriter
from broker.model.ledger import EncodedEntry, ReadPoint
from broker.model.registry import Topic
from broker.model.rulebook import Revision
from broker.ports.keys import Keys
from broker.ports.ledger_log import LedgerLog
from broker.ports.record_log import RecordLog
from tests.contract.backend import OWN_KEYS, FencingLog
from tests.fakes.ledger_log import open_writer


def fingerprint(body: bytes) -> tuple[bytes, bytes]:
    """Identity and digest as tests/contract/samples.py gives them to records whose body is their name."""
    digest = hashlib.sha256(body).digest()[:16]
    return digest, digest


class KafkaBackend:
    """Topics with one prefix on one cluster."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.connection = KafkaConnection(bootstrap=(bootstrap,), prefix=prefix, replication=1)

    @property
    def address(self) -> str:
        return f"{self.connection.bootstrap[0]} {self.connection.prefix}"

    async def open_record_log(self) -> KafkaRecordLog:
        return await KafkaRecordLog.open(self.connection, fingerprint=fingerprint)

    async def open_record_reader(self) -> KafkaRecordReader:
        return KafkaRecordReader(self.connection)

    async def open_ledger(self) -> LedgerWriter:
        return await open_writer((await self.open_ledger_logs("broker"))[0])

    async def open_ledger_logs(self, *instances: str) -> list[FencingLog]:
        return [await KafkaLedgerLog.open(self.connection, name, partitions=3) for name in instances]

    async def open_ledger_reader(self) -> KafkaLedgerReader:
        return await KafkaLedgerReader.open(self.connection)

    async def expire_ledger(self, log: LedgerLog, before_ms: int) -> None:
        """As Kafka's own retention would, except that the newest record stays."""
        admin = ClusterAdmin(self.connection)
        name = self.connection.topic("ledger")
        kept = await admin.offsets(name, 3, before_ms)
        ends = await admin.offsets(name, 3, OffsetSpec.LATEST)
        until = {
            TopicPartition(name, number): end - 1 if offset < 0 else offset
            for number, (offset, end) in enumerate(zip(kept, ends, strict=True))
            if end
        }
        await admin.call(lambda client: client.delete_records(until))
        await admin.close()

    async def rewrite_ledger(self, instance: str, change: Callable[[list[EncodedEntry]], None]) -> None:
        """Into topics of another prefix, which takes the place of the present one."""
        reader = await self.open_ledger_reader()
        entries = [each async for page in reader.read(instance, ReadPoint()) for each in page.entries]
        checkpoints = [each async for each in reader.checkpoints(instance)]
        await reader.close()
        change(entries)
        self.connection = replace(self.connection, prefix=f"{self.connection.prefix}.again")
        await (await KafkaLedgerLog.open(self.connection, instance, partitions=3)).close()
        producer = self.connection.producer()
        for entry in entries:
            producer.send(
                self.connection.topic("ledger"),
                key=instance.encode(),
                value=entry.leaf + b"\n" + entry.openings,
                partition=0,
            )
        for checkpoint in checkpoints:
            message = checkpoint_message(instance, checkpoint)
            topic = self.connection.topic("ledger-checkpoints")
            producer.send(topic, key=message.key, value=message.value)
        producer.flush()
        producer.close()

    async def open_control_log(self, keys: Keys = OWN_KEYS) -> KafkaControlLog:
        return await KafkaControlLog.open(self.connection, ControlSeal(keys))

    async def open_subscription_store(self) -> KafkaSubscriptionStore:
        return await KafkaSubscriptionStore.open(self.connection)

    async def open_rulebook_store(self) -> KafkaRulebookStore:
        return await KafkaRulebookStore.open(self.connection)

    async def open_rulebook_reader(self) -> KafkaRulebookStore:
        return await KafkaRulebookStore.open_to_read(self.connection)

    async def expire(self, log: RecordLog, topic: Topic, now_ms: int) -> None:
        """Delete what Kafka's own retention would delete once its segments were closed."""
        if topic.retention_s is None:
            return
        admin = ClusterAdmin(self.connection)
        name = self.connection.topic("records", topic.name)
        kept = await admin.offsets(name, topic.partitions, now_ms - topic.retention_s * 1000)
        ends = await admin.offsets(name, topic.partitions, OffsetSpec.LATEST)
        until = {
            TopicPartition(name, number): end if offset < 0 else offset
            for number, (offset, end) in enumerate(zip(kept, ends, strict=True))
        }
        await admin.call(lambda client: client.delete_records(until))
        await admin.close()

    async def tamper_with_rulebook(self, revision_id: str, path: str, content: bytes) -> None:
        store = await self.open_rulebook_store()
        kept = await store.get(revision_id)
        assert kept is not None
        await store.close()
        forged = Revision(kept.id, {**kept.files, path: content}, kept.time_dependent)
        producer = self.connection.producer()
        for message in encode_revision(forged):
            producer.send(self.connection.topic("rulebooks"), key=message.key, value=message.value).get(10)
        producer.close()

    async def stop(self) -> None:
        """Remove the topics of this prefix."""
        admin = ClusterAdmin(self.connection)
        names = [
            name
            for name in await admin.call(lambda client: client.list_topics())
            if name.startswith(f"{self.connection.prefix}.")
        ]
        if names:
            await admin.call(lambda client: client.delete_topics(names))
        await admin.close()


async def start(request: pytest.FixtureRequest) -> KafkaBackend:
    """A backend under a new prefix."""
    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    return KafkaBackend(bootstrap, f"t{uuid.uuid4().hex[:12]}")


async def connect(address: str) -> KafkaBackend:
    """The backend that another process uses."""
    bootstrap, prefix = address.split(" ")
    return KafkaBackend(bootstrap, prefix)
