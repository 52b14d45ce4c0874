"""Wherever a sink is killed, and whatever Kafka leaves unsaid: each delivery is committed once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cloudevents import new_record
from connectors.delivery import Delivery
from connectors.kafka.exactly_once import ExactlyOnce, Ownership
from connectors.kafka.transactions import Unsettled
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from tests.fakes.sink_kafka import (
    FakeKafka,
    FakePlaces,
    FakeWriter,
    Killed,
    delivered,
    portion_of,
    sink_settings,
)

SETTINGS = sink_settings(on_error="dead-letter")
QUICK = Retry(attempts=3, first_s=1e-6, longest_s=1e-6)
ENDS = st.sampled_from(["well", "lost", "unknown", "killed before", "killed after", "taken over"])


def deliveries(count: int) -> list[Delivery]:
    return [
        delivered(
            new_record(
                type="t.v1", source="//hp/x", id=str(n), data={}, labels={"dataclassification": "green"}
            ),
            cursor=b"%d" % (n + 1),
        )
        for n in range(count)
    ]


class Process:
    """Runs the sink's store over a fake cluster; `restart` is what the supervisor does, a new one is a new process."""

    def __init__(self, kafka: FakeKafka, name: str) -> None:
        self.kafka = kafka
        self.ownership = Ownership(name)
        self.retries = 0
        self.restart()

    def restart(self) -> None:
        places = FakePlaces(self.kafka)
        self.store = ExactlyOnce(
            lambda: FakeWriter(self.kafka, places), places, self.ownership, QUICK, self._retried
        )

    def _retried(self) -> None:
        self.retries += 1

    def write_on(self, all_of_them: list[Delivery], most: int) -> None:
        """Open it and write what follows its place, `most` at a time: as a stream, it is asked for its place only once."""
        self.store.open()
        place = self.store.place or b"0"
        assert isinstance(place, bytes)
        for at in range(int(place), len(all_of_them), most):
            self.store.store(portion_of(all_of_them[at : at + most], SETTINGS))


def run_to_the_end(kafka: FakeKafka, wanted: list[Delivery], most: int) -> int:
    """Start it again after each failure, as a new process after each kill; how many processes it took."""
    processes = [Process(kafka, "0")]
    for _ in range(200):
        try:
            processes[-1].write_on(wanted, most)
            return len(processes)
        except Killed:
            processes.append(Process(kafka, str(len(processes))))
        except Unsettled:
            processes[-1].restart()
        except ConnectorFailed as failed:
            if failed.lasting:
                processes.append(Process(kafka, str(len(processes))))
            processes[-1].restart()
    raise AssertionError("it does not end")


@given(ends=st.lists(ENDS, max_size=40), count=st.integers(0, 30), most=st.integers(1, 7))
@settings(deadline=None, max_examples=200)
def test_each_delivery_is_committed_once_and_in_order(ends: list[str], count: int, most: int) -> None:
    kafka, wanted = FakeKafka(ends=ends), deliveries(count)

    def take_over() -> None:
        if kafka.ends and kafka.ends[0] == "taken over":
            kafka.ends[0] = "well"
            kafka.ends[:0] = ["well", "well"]
            Process(kafka, "rival").write_on(wanted, most)

    kafka.before_write = take_over
    run_to_the_end(kafka, wanted, most)
    written = [dict(each.headers)["ce_id"].decode() for each in kafka.records("in")]
    assert written == [str(n) for n in range(count)]


def test_what_was_committed_without_an_answer_is_not_written_again() -> None:
    kafka, wanted = FakeKafka(ends=["well", "unknown"]), deliveries(2)
    process = Process(kafka, "a")
    process.write_on(wanted, 2)
    assert len(kafka.records("in")) == 2
    assert process.retries == 1


def test_what_was_not_committed_is_written_again_a_bounded_number_of_times() -> None:
    kafka, wanted = FakeKafka(ends=["well", *["lost", "well"] * 2]), deliveries(1)
    process = Process(kafka, "a")
    process.write_on(wanted, 1)
    assert (len(kafka.records("in")), process.retries) == (1, 2)
    failing = FakeKafka(ends=["well", *["lost", "well"] * 20])
    with pytest.raises(ConnectorFailed, match="KafkaTimeoutError") as failed:
        Process(failing, "a").write_on(wanted, 1)
    assert not failed.value.lasting
    assert failing.records("in") == []


def test_who_was_taken_over_ends_for_good_and_writes_nothing_more() -> None:
    kafka, wanted = FakeKafka(), deliveries(3)
    first, second = Process(kafka, "first"), Process(kafka, "second")
    first.store.open()
    second.write_on(wanted[:2], 2)
    with pytest.raises(ConnectorFailed, match="another process runs this connector") as failed:
        first.store.store(portion_of(wanted[:1], SETTINGS))
    assert failed.value.lasting
    second.write_on(wanted, 2)
    assert len(kafka.records("in")) == 3


def test_a_task_that_starts_again_does_not_take_back_what_another_process_took() -> None:
    kafka, wanted = FakeKafka(), deliveries(1)
    first, second = Process(kafka, "first"), Process(kafka, "second")
    first.store.open()
    second.store.open()
    first.restart()
    with pytest.raises(ConnectorFailed, match="another process"):
        first.store.open()
    second.store.store(portion_of(wanted, SETTINGS))
    first.restart()
    first.store.open()  # somebody has been told, and has restarted it
    assert first.store.place == b"1"
    with pytest.raises(ConnectorFailed, match="another process"):
        second.store.still_owner()


def test_a_place_that_somebody_moved_meanwhile_is_never_overwritten() -> None:
    kafka, wanted = FakeKafka(), deliveries(2)
    process = Process(kafka, "a")
    process.store.open()
    moved = FakePlaces(kafka)
    kafka.commit([moved.place("latest", "by hand")], moved)
    kafka.ends = ["lost"]
    with pytest.raises(ConnectorFailed, match="place was changed"):
        process.store.store(portion_of(wanted, SETTINGS))
    assert kafka.kept.place == "latest"
    assert kafka.records("in") == []


def test_what_is_too_large_becomes_a_dead_letter_in_the_same_transaction() -> None:
    kafka, wanted = FakeKafka(largest_bytes=100), deliveries(3)
    assert wanted[1].record is not None
    wanted[1].record.text_data = "x" * 101
    portion = portion_of(wanted, SETTINGS)
    process = Process(kafka, "a")
    process.store.open()
    kafka.largest_bytes, portion_was = 100, len(portion.records())
    with pytest.raises(ConnectorFailed, match="dead letter"):
        process.store.store(portion)  # the letter is as large as the record
    assert (portion_was, len(portion.treated), kafka.log) == (3, 1, [])


def test_what_is_too_large_ends_a_connector_that_is_to_fail_and_is_left_out_by_one_that_is_to_skip() -> None:
    wanted = deliveries(3)
    assert wanted[1].record is not None
    wanted[1].record.text_data = "secret " * 20
    for on_error in ("fail", "skip"):
        kafka = FakeKafka(largest_bytes=100)
        process = Process(kafka, "a")
        process.store.open()
        portion = portion_of(wanted, sink_settings(on_error=on_error))
        if on_error == "skip":
            process.store.store(portion)
            assert (len(kafka.records("in")), len(portion.treated)) == (2, 1)
            continue
        with pytest.raises(ConnectorFailed, match="RECORD_TOO_LARGE") as failed:
            process.store.store(portion)
        assert "secret" not in failed.value.cause
        assert kafka.log == []
