"""The control log on Kafka when somebody else wrote into its topic, or deleted it: nothing more is believed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.control import KafkaControlLog
from broker.core.control.encoding import encode_event
from broker.core.control.seal import ControlSeal
from broker.model.control import ControlEvent, Heard
from tests.fakes.regimes import FixedKeys
from tests.services.kafka_topics import delete_topic

pytestmark = pytest.mark.kafka

PATIENCE_S = 60.0
SEAL = ControlSeal(FixedKeys())
UNSEALED = encode_event(ControlEvent("left", 2, "broker", {"run": "r"}))


@pytest.fixture
def connection(kafka_bootstrap: str) -> KafkaConnection:
    return KafkaConnection(bootstrap=(kafka_bootstrap,), prefix=f"t{uuid.uuid4().hex[:12]}", replication=1)


@pytest.fixture
async def control_log(connection: KafkaConnection) -> AsyncIterator[KafkaControlLog]:
    opened = await KafkaControlLog.open(connection, SEAL)
    yield opened
    await opened.close()


class Ear:
    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.lost = asyncio.Event()

    def hear(self, entries: Sequence[Heard]) -> None:
        self.heard.extend(entries)


def event(number: int) -> ControlEvent:
    return ControlEvent("left", number, "broker", {"run": "r"})


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"", b"\n", UNSEALED, UNSEALED + b"\n0 ", SEAL.seal(UNSEALED).replace(b"left", b"kept")),
        *map(SEAL.seal, (b"{", b'{"kind":1}', b'{"beat":{"instance":"a"}}')),
    ],
)
async def test_what_cannot_be_read_ends_it(
    control_log: KafkaControlLog, connection: KafkaConnection, value: bytes | None
) -> None:
    ear = Ear()
    await control_log.append(event(1))
    await control_log.follow(ear.hear, ear.lost.set)
    assert not ear.lost.is_set()
    await asyncio.to_thread(write, connection, value)
    async with asyncio.timeout(PATIENCE_S):
        await ear.lost.wait()
    await control_log.append(event(2))
    assert [each.content for each in ear.heard] == [event(1)]


async def test_a_deleted_topic_ends_it(control_log: KafkaControlLog, connection: KafkaConnection) -> None:
    ear = Ear()
    await control_log.append(event(1))
    await control_log.append(event(2))
    await control_log.follow(ear.hear, ear.lost.set)
    await asyncio.to_thread(delete_topic, connection.bootstrap[0], connection.topic("control"))
    again = await KafkaControlLog.open(connection, SEAL)
    try:
        await again.append(event(3))
        async with asyncio.timeout(PATIENCE_S):
            await ear.lost.wait()
    finally:
        await again.close()
    assert [each.content for each in ear.heard] == [event(1), event(2)]


def write(connection: KafkaConnection, value: bytes | None) -> None:
    producer = connection.producer()
    producer.send(connection.topic("control"), key=b"event/forged", value=value)
    producer.flush()
    producer.close()
