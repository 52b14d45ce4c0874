"""A run of the Kafka sink between a scripted exchange and a fake cluster: what it takes, tells and ends with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from connectors.client import Client
from connectors.cloudevents import new_record
from connectors.errors import EntenteClientError
from connectors.kafka.connection import Cluster
from connectors.kafka.exactly_once import ExactlyOnce, Ownership
from connectors.kafka.portion import Treatment
from connectors.kafka.sink_store import KafkaStore
from connectors.kafka.thread import ClientThread
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.progress import Progress
from connectors.runtime.sink import SinkRun, Window
from connectors.runtime.takeovers import WITHIN_S, Takeovers
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.sink_kafka import FakeKafka, FakePlaces, FakeWriter, sink_settings
from tests.services.exchange import Context, Script, running_exchange

PATIENCE_S = 30.0
CLIENT = Retry(attempts=1)
SETTINGS = sink_settings()


def record(number: int) -> CloudEvent:
    made = new_record(
        type="t.v1", source="//hp/x", id=str(number), data={}, labels={"dataclassification": "green"}
    )
    made.attributes["recordedtime"].ce_timestamp.FromSeconds(int(time.time()) - 100)
    return made


@dataclass
class Run:
    """A sink at work; the exchange keeps its position in `script.positions["intake"]`."""

    script: Script
    kafka: FakeKafka
    gate: Gate
    progress: Progress
    task: asyncio.Task[None]

    async def until(self, met: object) -> None:
        """Wait until it holds, while the sink runs."""
        assert callable(met)
        async with asyncio.timeout(PATIENCE_S):
            while not met():
                await asyncio.wait({self.task}, timeout=0.01)
                if self.task.done():
                    self.task.result()
                    raise AssertionError("it ended")

    async def ended(self) -> None:
        """Wait for its end, and raise what it raised."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self.task)

    @property
    def written(self) -> list[str]:
        return [dict(each.headers)["ce_id"].decode() for each in self.kafka.records("in")]


@asynccontextmanager
async def sink(
    script: Script,
    kafka: FakeKafka,
    name: str = "one",
    window: int = 4_000,
    takeovers: Takeovers | None = None,
) -> AsyncIterator[Run]:
    """As Connector.run does it, over a fake cluster."""
    places = FakePlaces(kafka)
    thread = ClientThread("test", Cluster(bootstrap=("kafka.example:9093",)))
    store = ExactlyOnce(
        lambda: FakeWriter(kafka, places), places, Ownership(name), Retry(3, 1e-6, 1e-6), lambda: None
    )
    gate, progress = Gate(), Progress()
    treatment = Treatment("intake", SETTINGS.topic, SETTINGS.on_error, None)
    async with (
        running_exchange(script) as endpoint,
        Client(endpoint, token="t", insecure_plaintext=True, retry=CLIENT) as exchange,
    ):
        store.open()
        run = SinkRun(
            TaskContext("intake", 0, exchange, gate, progress),
            SETTINGS,
            "intake",
            KafkaStore(SETTINGS, treatment, store, thread, progress),
            Window(records=window),
            takeovers or Takeovers(),
        )
        task = asyncio.create_task(run.run())
        try:
            yield Run(script, kafka, gate, progress, task)
            gate.set(stopping=True)
            if not task.done():
                async with asyncio.timeout(PATIENCE_S):
                    await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            thread.end()


async def test_what_it_has_stored_is_acknowledged_when_it_stops() -> None:
    script, kafka = Script(log=[record(n) for n in range(8)]), FakeKafka()
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 8)
        assert run.progress.lag_s is not None
        assert run.progress.lag_s >= 100
    assert run.written == [str(n) for n in range(8)]
    assert script.positions["intake"] == 8
    assert script.half_closed == 1


async def test_batches_that_follow_one_another_share_a_transaction_and_the_first_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.runtime.sink._TOGETHER_S", 3_600.0)
    script, kafka = Script(log=[record(0)]), FakeKafka()
    async with sink(script, kafka, window=10) as run:
        await run.until(lambda: run.progress.records == 1)
        written: list[int] = []
        kafka.before_write = lambda: written.append(len(kafka.log))
        for number in range(1, 6):
            await script.append(record(number))
        await run.until(lambda: run.progress.records == 6)
        assert written == [1]
    assert run.written == [str(n) for n in range(6)]


async def test_a_heartbeat_after_all_is_stored_says_that_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.runtime.sink._LOOK_S", 0.01)
    script, kafka = Script(log=[record(0)]), FakeKafka()
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 1)
        moved_at_s = run.progress.last_success_s
        assert run.progress.lag_s != 0.0
        script.heartbeats.put_nowait(None)
        await run.until(lambda: run.progress.lag_s == 0.0)
        assert run.progress.last_success_s is not None
        assert run.progress.last_success_s >= (moved_at_s or 0.0)


async def test_where_everything_is_withheld_its_place_moves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.runtime.sink._LOOK_S", 0.01)
    monkeypatch.setattr("connectors.runtime.sink._IDLE_STORE_S", 0.0)
    script, kafka = Script(), FakeKafka()
    async with sink(script, kafka) as run:
        await run.until(lambda: script.opens)
        script.heartbeats.put_nowait(None)
        await run.until(lambda: kafka.kept.place == b"1:0:h")
    assert kafka.log == []


async def test_paused_it_takes_nothing_and_goes_on_on_the_same_stream() -> None:
    script, kafka = Script(log=[record(0)]), FakeKafka()
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 1)
        run.gate.set(paused=True)
        for number in range(1, 5):
            await script.append(record(number))
        await run.until(lambda: script.positions.get("intake") == 1)
        assert run.written == ["0"]
        run.gate.set(paused=False)
        await run.until(lambda: run.progress.records == 5)
    assert run.written == [str(n) for n in range(5)]
    assert len(script.opens) == 1


async def test_stopped_while_paused_it_ends_and_the_next_one_begins_with_what_was_not_taken() -> None:
    script, kafka = Script(log=[record(0)]), FakeKafka()
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 1)
        run.gate.set(paused=True)
        await script.append(record(1))
    async with sink(script, kafka, "two") as run:
        await run.until(lambda: run.progress.records == 1)
    assert run.written == ["0", "1"]


async def test_each_session_begins_where_kafka_stands_and_not_where_the_exchange_believes() -> None:
    script, kafka = Script(log=[record(n) for n in range(30)], confirm_acks=False), FakeKafka()
    script.break_after = [4, 5]
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 30)
        assert run.progress.retries == 2
    assert run.written == [str(n) for n in range(30)]
    assert len(script.opens) == 3
    assert script.calls["SeekSubscription"] == 2


class NoStreams(Script):
    """Answers calls, and opens no stream."""

    async def enter(self, context: Context, method: str) -> None:
        if method == "Subscribe":
            self.refusals.append((grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"))
        await super().enter(context, method)


async def test_streams_that_cannot_be_opened_end_the_task_after_a_bounded_number_of_attempts() -> None:
    script, kafka = NoStreams(), FakeKafka()
    async with sink(script, kafka) as run:
        with pytest.raises(EntenteClientError) as failed:
            await run.ended()
        assert failed.value.reason == "STORAGE_UNAVAILABLE"
        assert run.progress.retries == SETTINGS.retry.attempts - 1


async def test_calls_that_the_client_has_repeated_are_not_repeated_all_over_again() -> None:
    script, kafka = Script(), FakeKafka()
    script.refusals.extend([(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")] * 20)
    async with sink(script, kafka) as run:
        with pytest.raises(EntenteClientError) as failed:
            await run.ended()
        assert failed.value.reason == "STORAGE_UNAVAILABLE"
        assert sum(script.calls.values()) == CLIENT.attempts


@pytest.mark.parametrize("reason", ["TOPIC_NOT_FOUND", "POLICY_DENIED", "PURPOSE_NOT_PERMITTED"])
async def test_an_agreement_that_ended_is_the_cause_and_may_be_granted_again(reason: str) -> None:
    script, kafka = Script(log=[record(0)]), FakeKafka()
    script.refusals.append((grpc.StatusCode.PERMISSION_DENIED, reason))
    async with sink(script, kafka) as run:
        with pytest.raises(EntenteClientError) as failed:
            await run.ended()
        assert failed.value.reason == reason
    async with sink(script, kafka) as run:
        await run.until(lambda: run.progress.records == 1)


@pytest.mark.parametrize("reason", ["POSITION_EXPIRED", "CURSOR_INVALID", "SUBSCRIPTION_EXISTS"])
async def test_what_only_a_person_can_decide_waits_for_one(reason: str) -> None:
    script, kafka = Script(log=[record(0)]), FakeKafka()
    script.refusals.append((grpc.StatusCode.FAILED_PRECONDITION, reason))
    async with sink(script, kafka) as run:
        with pytest.raises(ConnectorFailed, match=reason) as failed:
            await run.ended()
        assert failed.value.lasting
        assert "offsets" in failed.value.cause
    assert kafka.log == []


async def test_a_subscription_that_somebody_moved_is_told_from_a_connector_that_was_taken_over() -> None:
    for rival in (False, True):
        script, kafka = Script(log=[record(0)]), FakeKafka()
        script.refusals.append((grpc.StatusCode.ABORTED, "SUBSCRIPTION_TAKEN_OVER"))
        async with sink(script, kafka) as run:
            if rival:
                places = FakePlaces(kafka)
                kafka.commit([places.claim("rival")], places)
            with pytest.raises(ConnectorFailed) as failed:
                await run.ended()
        assert failed.value.lasting is rival
        assert ("another process" in failed.value.cause) is rival


async def test_a_subscription_that_is_taken_again_and_again_is_left_to_the_other_program() -> None:
    script, kafka, takeovers = Script(log=[record(0)]), FakeKafka(), Takeovers()
    for lasting in (False, True):
        script.refusals.append((grpc.StatusCode.ABORTED, "SUBSCRIPTION_TAKEN_OVER"))
        async with sink(script, kafka, takeovers=takeovers) as run:
            with pytest.raises(ConnectorFailed, match="subscription intake") as failed:
                await run.ended()
        assert failed.value.lasting is lasting
        assert ("another program" in failed.value.cause) is lasting


def test_takeovers_long_after_one_another_do_not_recur() -> None:
    takeovers = Takeovers()
    told = [takeovers.recur(now_s) for now_s in (0.0, WITHIN_S, 2 * WITHIN_S, 2.5 * WITHIN_S)]
    assert told == [False, False, False, True]


async def test_what_cannot_be_written_is_counted_as_failed_and_ends_the_task_each_time() -> None:
    script, kafka = Script(log=[record(0), record(1)]), FakeKafka(largest_bytes=40)
    script.log[1].text_data = "x" * 41
    async with sink(script, kafka) as run:
        with pytest.raises(ConnectorFailed, match="RECORD_TOO_LARGE"):
            await run.ended()
        assert (run.progress.failed, run.progress.records) == (1, 0)
    assert kafka.log == []
