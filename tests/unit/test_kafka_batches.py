"""Batches made whole are what kafka-python reads, and tell of each record what became of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import MessageSizeTooLargeError, TransactionAbortedError
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record import MemoryRecords

from connectors.kafka.batches import HEADER_BYTES, Flight, content_of
from connectors.kafka.encoding import Outgoing

HERE, THERE = TopicPartition("in", 0), TopicPartition("in", 1)
LARGE_BYTES = 1 << 20

outgoing = st.builds(
    Outgoing,
    st.just("in"),
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=20_000),
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=4),
)


class Producer:
    """As much of a producer as a flight uses."""

    def __init__(self) -> None:
        self.taken_in: list[TopicPartition] = []
        self._accumulator: Any = RecordAccumulator()
        self._transaction_manager = SimpleNamespace(maybe_add_partition_to_transaction=self.taken_in.append)
        self._sender = SimpleNamespace(wakeup=lambda: None)

    def batches(self, place: TopicPartition) -> list[Any]:
        return list(self._accumulator._batches[place])


def flown(records: list[Outgoing], batch_bytes: int) -> tuple[Producer, Flight]:
    """All of them to one partition."""
    producer = Producer()
    flight = Flight(producer, batch_bytes)
    for index, record in enumerate(records):
        flight.add(index, HERE, content_of(record))
    flight.end()
    return producer, flight


def read(batch: Any) -> tuple[list[tuple[object, ...]], int]:
    """The records of a batch as a consumer sees them, and its size in bytes."""
    batch.records.close()
    buffer = batch.records.buffer()
    found = []
    for each in MemoryRecords(buffer):
        assert each.validate_crc()
        found += [(record.offset, record.key, record.value, list(record.headers)) for record in each]
    return found, len(buffer)


@given(st.lists(outgoing, min_size=1, max_size=12), st.sampled_from([0, 1_000, LARGE_BYTES]))
def test_what_is_written_is_what_is_read(records: list[Outgoing], batch_bytes: int) -> None:
    producer, _ = flown(records, batch_bytes)
    seen = []
    for batch in producer.batches(HERE):
        found, size_bytes = read(batch)
        assert [offset for offset, *_ in found] == list(range(batch.record_count))
        assert len(found) == 1 or size_bytes <= batch_bytes
        seen += [rest for _, *rest in found]
    assert seen == [[each.key, each.value, each.headers] for each in records]
    assert producer.taken_in[0] == HERE


@given(outgoing)
def test_a_record_is_never_smaller_than_what_it_is_refused_by(record: Outgoing) -> None:
    producer, _ = flown([record], 0)
    (batch,) = producer.batches(HERE)
    assert len(content_of(record)) + HEADER_BYTES < read(batch)[1]


def test_each_partition_joins_the_transaction_before_its_first_record() -> None:
    producer = Producer()
    flight = Flight(producer, LARGE_BYTES)
    for index, place in enumerate((HERE, THERE, HERE)):
        assert (place in producer.taken_in) == (index == 2)
        flight.add(index, place, content_of(Outgoing("in", b"k", b"v", [])))
    flight.end()
    assert [len(read(batch)[0]) for place in (HERE, THERE) for batch in producer.batches(place)] == [2, 1]


def test_outcomes_are_told_by_record() -> None:
    record = Outgoing("in", b"k", b"v" * 100, [])
    producer, flight = flown([record] * 6, HEADER_BYTES + 2 * (len(content_of(record)) + 10))
    well, refused, given_up = producer.batches(HERE)
    well.complete(40, -1)
    refused.complete_exceptionally(MessageSizeTooLargeError(), lambda _: MessageSizeTooLargeError())
    given_up.abort(TransactionAbortedError())
    failures = dict(flight.failures())
    assert {index: (type(each.error), each.answered) for index, each in failures.items()} == {
        2: (MessageSizeTooLargeError, True),
        3: (MessageSizeTooLargeError, True),
        4: (TransactionAbortedError, False),
        5: (TransactionAbortedError, False),
    }


def test_what_was_never_answered_has_failed() -> None:
    _, flight = flown([Outgoing("in", b"k", b"v", [])], LARGE_BYTES)
    assert [(index, each.answered) for index, each in flight.failures()] == [(0, False)]


def test_the_offset_of_the_last_record_is_the_one_that_it_has() -> None:
    producer, flight = flown([Outgoing("in", b"k", b"v", [])] * 3, LARGE_BYTES)
    (batch,) = producer.batches(HERE)
    batch.complete(40, -1)
    assert list(flight.failures()) == []
    assert flight.offset_of_last() == 42
