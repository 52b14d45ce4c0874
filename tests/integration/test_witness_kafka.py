"""Another Kafka as a witness: its topic belongs to its operator, and what it does not confirm does not count."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.witness.kafka import KafkaWitness
from broker.ports.witness import WitnessUnavailable
from deploy.kafka.node import KafkaNode
from tests.fakes.clock import TurnedClock
from tests.fakes.witnessed_log import WitnessedLog
from tests.services.kafka_topics import stored_records

LOG = WitnessedLog().grow(30)
SECOND = WitnessedLog("exchange-1/broker-2").grow(700, "second")

pytestmark = pytest.mark.kafka


@dataclass(frozen=True, slots=True)
class Cluster:
    """Somebody else's Kafka, with a topic of a name of its own."""

    connection: KafkaConnection
    topic: str
    admin: ClusterAdmin

    def witness(self, timeout_s: float = 30.0) -> KafkaWitness:
        return KafkaWitness("other", self.connection, self.topic, TurnedClock(), timeout_s=timeout_s)

    async def make_topic(self, partitions: int = 1, **settings: str) -> None:
        await self.admin.ensure_topic(self.topic, partitions, settings)

    async def produce(self, *records: tuple[bytes, bytes | None]) -> None:
        """Write past the witness, as somebody else may."""

        def send() -> None:
            producer = self.connection.producer()
            for sent in [producer.send(self.topic, key=key, value=value) for key, value in records]:
                sent.get(30)
            producer.close()

        await asyncio.to_thread(send)


@pytest.fixture
async def cluster(kafka_bootstrap: str) -> AsyncIterator[Cluster]:
    connection = KafkaConnection(
        bootstrap=(kafka_bootstrap,), prefix=f"w{uuid.uuid4().hex[:12]}", replication=1
    )
    made = Cluster(connection, connection.topic("checkpoints"), ClusterAdmin(connection))
    yield made
    if await made.admin.find_topic(made.topic) is not None:
        await made.admin.call(lambda client: client.delete_topics([made.topic]))
    await made.admin.close()


async def test_a_checkpoint_is_a_record_that_others_can_read(cluster: Cluster) -> None:
    await cluster.make_topic()
    witness = cluster.witness()
    for old, new in ((0, 4), (4, 9)):
        await witness.offer(LOG.update(old, new))
    await witness.close()
    stored = list(stored_records(cluster.connection.bootstrap[0], cluster.topic))
    assert [(record.key, record.value) for record in stored] == [
        (LOG.origin.encode(), LOG.checkpoint(size)) for size in (4, 9)
    ]


async def test_a_topic_that_is_not_there_is_not_made(cluster: Cluster) -> None:
    """It may have been deleted: a new one would have forgotten everything."""
    witness = cluster.witness()
    for ask in (witness.latest(LOG.origin), witness.offer(LOG.update(0))):
        with pytest.raises(WitnessUnavailable, match="other: there is no topic"):
            await ask
    assert await cluster.admin.find_topic(cluster.topic) is None
    await cluster.make_topic()
    await witness.offer(LOG.update(0))
    assert await witness.latest(LOG.origin) == LOG.checkpoint()
    await witness.close()


async def test_a_topic_of_several_partitions_is_refused(cluster: Cluster) -> None:
    await cluster.make_topic(2)
    witness = cluster.witness()
    with pytest.raises(WitnessUnavailable, match=r"other: .* has 2 partitions"):
        await witness.held_size(LOG.origin, LOG.checkpoint(0))
    await witness.close()


async def test_the_newest_is_found_behind_what_others_wrote(cluster: Cluster) -> None:
    await cluster.make_topic()
    key = LOG.origin.encode()
    await cluster.produce(
        (key, LOG.checkpoint(4)),
        *((SECOND.origin.encode(), SECOND.checkpoint(7)) for _ in range(1_500)),
        (key, b"garbage"),
        (key, None),
        (key, SECOND.checkpoint(7)),
        (b"", LOG.checkpoint(9)),
    )
    witness = cluster.witness()
    assert await witness.latest(LOG.origin) == LOG.checkpoint(4)
    assert await witness.latest(SECOND.origin) == SECOND.checkpoint(7)
    assert await witness.latest("exchange-1/nobody") is None
    await witness.offer(LOG.update(4))
    await witness.close()


async def test_a_compacted_topic_serves_as_well(cluster: Cluster) -> None:
    await cluster.make_topic(**{"cleanup.policy": "compact"})
    witness = cluster.witness()
    await witness.offer(LOG.update(0, 4))
    await witness.offer(LOG.update(4, 9))
    await witness.close()
    again = cluster.witness()
    assert await again.latest(LOG.origin) == LOG.checkpoint(9)
    await again.close()


async def test_a_cluster_that_is_away_holds_nothing_up_and_is_used_when_it_is_back(
    kafka_node: KafkaNode,
) -> None:
    connection = KafkaConnection(
        bootstrap=(kafka_node.bootstrap,), prefix=f"w{uuid.uuid4().hex[:12]}", replication=1
    )
    cluster = Cluster(connection, connection.topic("checkpoints"), ClusterAdmin(connection))
    await cluster.make_topic()
    witness = cluster.witness(timeout_s=1.0)
    await _patiently(witness, 0, 4)
    await asyncio.to_thread(kafka_node.kill)
    with pytest.raises(WitnessUnavailable, match=r"^other: "):
        await witness.offer(LOG.update(4, 9))
    with pytest.raises(WitnessUnavailable, match=r"^other: "):
        await witness.latest(LOG.origin)
    await asyncio.to_thread(kafka_node.start)
    await _patiently(witness, 4, 12)
    held = [
        int(record.value.splitlines()[1]) for record in stored_records(kafka_node.bootstrap, cluster.topic)
    ]
    # What was not confirmed may have been stored all the same, also twice; it was a true checkpoint then, too.
    assert held == sorted(held)
    assert {4, 12} <= set(held) <= {4, 9, 12}
    await witness.close()
    await cluster.admin.close()


async def _patiently(witness: KafkaWitness, old: int, new: int) -> None:
    """Offer until it is confirmed, from whatever size is held, as the pusher does."""
    async with asyncio.timeout(90):
        while True:
            try:
                held = await witness.held_size(LOG.origin, LOG.checkpoint())
                assert held >= old
                await witness.offer(LOG.update(held, new))
                return
            except WitnessUnavailable:
                await asyncio.sleep(0.1)
