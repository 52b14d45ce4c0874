"""A follower never skips: what cannot be read or converted stalls its partition, and an offset outside the log is told."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from broker.adapters.kafka import follower as module
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.follower import Batch, Follower, OutOfRange, Place

CONNECTION = KafkaConnection(bootstrap=("nobody.example:9092",))
PLACE = ("t", 0)
OUT_OF_RANGE = KafkaError(KafkaError._AUTO_OFFSET_RESET, "Broker: Offset out of range: fetch failed")
CUT_OFF = KafkaError(
    KafkaError._AUTO_OFFSET_RESET,
    "Local: Partition log truncation detected: Partition log truncation detected at 7",
)


class Told:
    """A message of librdkafka, or an error in its place."""

    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._offset = offset
        self._error = error

    def topic(self) -> str:
        return PLACE[0]

    def partition(self) -> int:
        return PLACE[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class Consumer:
    """Gives what a test put in, and notes where it was sent."""

    def __init__(self, *told: Told) -> None:
        self.told = deque(told)
        self.assigned: list[tuple[str, int]] = []
        self.unassigned = 0
        self.closed = threading.Event()

    def poll(self, timeout_s: float) -> Told | None:
        if self.told:
            return self.told.popleft()
        self.closed.wait(0.001)
        return None

    def consume(self, most: int, timeout_s: float) -> list[Told]:
        return []

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self.assigned.extend((each.topic, each.offset) for each in places)

    incremental_assign = assign

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        self.unassigned += len(places)

    def close(self) -> None:
        self.closed.set()


async def followed(
    monkeypatch: pytest.MonkeyPatch,
    consumer: Consumer,
    *,
    refuse: Sequence[int] = (),
    tell_truncation: bool = False,
) -> list[int | OutOfRange]:
    """The offsets and errors that are delivered, until the offset 9 comes or the reading of the place has ended."""
    monkeypatch.setattr(module, "connected_consumer", lambda *_, **__: consumer)
    monkeypatch.setattr(module, "_RETRY_S", 0.001)
    found: list[int | OutOfRange] = []
    ended = asyncio.Event()
    refused = set(refuse)

    def convert(place: Place, messages: Sequence[Any]) -> tuple[Sequence[int], int]:
        offsets = [message.offset() for message in messages]
        for offset in refused.intersection(offsets):
            refused.remove(offset)
            consumer.told.extendleft(reversed([Told(offset), Told(9)]))
            raise ValueError("s3cr3t")
        return offsets, len(offsets)

    def deliver(news: Sequence[Batch[int]] | OutOfRange) -> None:
        found.extend(
            [news] if isinstance(news, OutOfRange) else [item for batch in news for item in batch.items]
        )
        if isinstance(news, OutOfRange) or 9 in found:
            ended.set()

    follower = Follower[int](CONNECTION, convert, deliver, name="test", tell_truncation=tell_truncation)
    await follower.start()
    follower.follow({PLACE: 3})
    async with asyncio.timeout(60):
        await ended.wait()
    await follower.close()
    assert consumer.closed.is_set()
    return found


async def test_an_offset_outside_the_log_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(Told(3, OUT_OF_RANGE))
    assert await followed(monkeypatch, consumer) == [OutOfRange(PLACE, 3)]
    assert consumer.assigned == [("t", 3)]


async def test_a_log_that_was_cut_off_is_told_to_whom_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await followed(monkeypatch, Consumer(Told(3), Told(7, CUT_OFF)), tell_truncation=True)
    assert found == [3, OutOfRange(PLACE, -1)]


async def test_to_others_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(Told(7, CUT_OFF), Told(9))
    assert await followed(monkeypatch, consumer) == [9]
    assert consumer.assigned == [("t", 3), ("t", 7)]
    assert consumer.unassigned == 1


async def test_what_cannot_be_converted_is_read_again_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer(Told(3), Told(4))
    assert await followed(monkeypatch, consumer, refuse=[4]) == [3, 4, 9]
    assert consumer.assigned == [("t", 3), ("t", 4)]
    assert "ValueError" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_other_errors_end_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "s3cr3t")
    no_group = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    consumer = Consumer(Told(0, error), Told(0, no_group), Told(9))
    assert await followed(monkeypatch, consumer) == [9]
    assert consumer.assigned == [("t", 3)]
    assert "UNKNOWN_TOPIC_OR_PART" in caplog.text
    assert "GROUP" not in caplog.text  # it is in none, and needs no right to one
    assert "s3cr3t" not in caplog.text
