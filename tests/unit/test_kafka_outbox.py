"""What became of messages that an outbox sent: told once a flight, never as stored when that is not known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from broker.adapters.kafka import outbox
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.flight import Flight, SendFailed
from broker.adapters.kafka.outbox import Message, Outbox
from broker.errors import StorageUnavailable

CONNECTION = KafkaConnection(bootstrap=("nobody.example:9092",))
MESSAGES = [Message(b"k", b"%d" % number, 1_000 + number) for number in range(3)]


class Report:
    """A delivery report's message."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        return self._offset


class Producer:
    """Holds what it is handed until a test delivers it; `refused_at` and later messages are not taken."""

    def __init__(self, refused_at: int | None = None) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.refused_at = refused_at
        self.refusal: Exception = KafkaException(KafkaError(KafkaError._FATAL))
        self.purged = threading.Event()
        self.reports: list[Callable[[], None]] = []
        self.wake = threading.Event()

    def produce(self, *arguments: Any) -> None:
        if self.refused_at is not None and len(self.taken) >= self.refused_at:
            raise self.refusal
        self.taken.append(arguments)

    def deliver(self, first: int) -> None:
        """All that was taken stands from this offset on."""
        for number, arguments in enumerate(self.taken):
            self.reports.append(lambda told=arguments[4], at=first + number: told(None, Report(at)))
        self.wake.set()

    def poll(self, timeout_s: float) -> None:
        self.wake.wait(timeout_s)
        self.wake.clear()
        while self.reports:
            self.reports.pop(0)()

    def flush(self, timeout_s: float) -> None:
        self.poll(min(timeout_s, 0.01))

    def purge(self) -> None:
        for arguments in self.taken:
            arguments[4](KafkaError(KafkaError._PURGE_INFLIGHT), Report(None))
        self.purged.set()


class Made:
    """Producers in the order in which an outbox asks for them, and how it is told that one can take no more."""

    def __init__(self, *producers: Producer) -> None:
        self.left = list(producers)
        self.fatal: list[Callable[[], None]] = []

    def __call__(
        self, connection: KafkaConnection, *, fatal: Callable[[], None], **settings: object
    ) -> Producer:
        self.fatal.append(fatal)
        if not self.left:
            raise StorageUnavailable("Kafka cannot be reached: _TRANSPORT")
        return self.left.pop(0)


async def opened(monkeypatch: pytest.MonkeyPatch, made: Made, *, atomic: bool = False) -> Outbox:
    monkeypatch.setattr(outbox, "connected_producer", made)
    box = Outbox(CONNECTION, atomic=atomic)
    await box.start()
    return box


def landed(*reports: tuple[KafkaError | None, int | None]) -> list[list[int] | SendFailed]:
    outcomes: list[list[int] | SendFailed] = []
    flight = Flight(len(reports), outcomes.append)
    for error, offset in reports:
        assert outcomes == []
        assert not flight.landed
        flight.told(error, Report(offset))
    assert flight.landed
    return outcomes


def test_a_flight_lands_once_with_the_offsets_of_all() -> None:
    assert landed((None, 7), (None, 9)) == [[7, 9]]


def test_a_message_that_is_stored_at_a_place_no_longer_told_has_no_offset() -> None:
    assert landed((None, 7), (None, None)) == [[7, -1]]


def test_a_flight_of_which_one_was_not_confirmed_is_of_unknown_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = KafkaError(KafkaError._MSG_TIMED_OUT, "s3cr3t")
    (outcome,) = landed((None, 7), (error, None), (None, 8))
    assert isinstance(outcome, SendFailed)
    assert outcome.stored is None
    assert "_MSG_TIMED_OUT" in str(outcome)
    assert "s3cr3t" not in str(outcome) + caplog.text


@pytest.mark.parametrize("atomic", [False, True])
async def test_what_is_confirmed_lands_in_order(monkeypatch: pytest.MonkeyPatch, atomic: bool) -> None:
    producer = Producer()
    box = await opened(monkeypatch, Made(producer), atomic=atomic)
    first = box.enqueue("t", 1, MESSAGES)
    second = box.enqueue("t", 1, MESSAGES[:1])
    async with asyncio.timeout(60):
        while len(producer.taken) < 3:  # noqa: ASYNC110 - another thread brings it about
            await asyncio.sleep(0.001)
        assert [taken[:4] for taken in producer.taken] == [("t", m.value, b"k", 1) for m in MESSAGES]
        producer.deliver(5)
        assert await first == [5, 6, 7]
        while len(producer.taken) < 4:  # noqa: ASYNC110 - another thread brings it about
            await asyncio.sleep(0.001)
        producer.taken = producer.taken[3:]
        producer.deliver(8)
        assert await second == [8]
    assert box.held_bytes == 0
    producer.taken.clear()
    await box.close()


@pytest.mark.parametrize(("refused_at", "stored"), [(0, False), (2, None)])
async def test_what_the_producer_does_not_take_is_certainly_not_stored_only_if_nothing_was_taken(
    monkeypatch: pytest.MonkeyPatch, refused_at: int, stored: bool | None
) -> None:
    box = await opened(monkeypatch, Made(Producer(refused_at)))
    async with asyncio.timeout(60):
        with pytest.raises(SendFailed, match="did not take it: _FATAL") as failed:
            await box.enqueue("t", 0, MESSAGES)
    assert failed.value.stored is stored
    await box.close()


async def test_after_a_fatal_error_what_flies_is_of_unknown_outcome_and_another_producer_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoilt, fresh = Producer(), Producer()
    made = Made(spoilt, fresh)
    box = await opened(monkeypatch, made)
    flying = box.enqueue("t", 0, MESSAGES)
    made.fatal[0]()
    async with asyncio.timeout(60):
        with pytest.raises(SendFailed) as failed:
            await flying
        assert failed.value.stored is None
        while len(made.fatal) < 2 or box._is_spoilt:  # noqa: ASYNC110 - another thread brings it about
            await asyncio.sleep(0.001)
        again = box.enqueue("t", 0, MESSAGES)
        fresh.deliver(0)
        assert await again == [0, 1, 2]
    fresh.taken.clear()
    await box.close()


async def test_a_cluster_that_is_away_is_told_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    monkeypatch.setattr(outbox, "connected_producer", made)
    box = Outbox(CONNECTION)
    with pytest.raises(StorageUnavailable):
        await box.start()
    made.left = [Producer()]
    await box.start()
    await box.start()
    assert len(made.fatal) == 2
    await box.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        box.enqueue("t", 0, MESSAGES)
