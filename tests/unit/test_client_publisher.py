"""Publishing one record at a time: order, batches, bounds, repetition, and closing that drains."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from connectors.client import Client
from connectors.errors import IdReused, NotFound, Unavailable
from connectors.publisher import PublisherOptions
from connectors.publishing import BATCH_RECORDS, PublishOutcome
from connectors.retry import Retry
from tests.services.exchange import Exchange, Script, running_exchange
from tests.unit.test_client_calls import client, record

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON = PublisherOptions(linger_s=0.0)
NEVER = PublisherOptions(linger_s=600.0)


@asynccontextmanager
async def connected(script: Script, **changes: object) -> AsyncIterator[Client]:
    """A client of a running exchange."""
    async with running_exchange(script) as endpoint, client(endpoint, **changes) as exchange:
        yield exchange


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Holds the exchange's answers to streams of records back: one batch is served for each release."""
    gate = asyncio.Semaphore(0)
    publish_stream = Exchange.PublishStream

    async def held(self: Exchange, requests: Any, context: Any) -> Any:
        async for response in publish_stream(self, requests, context):
            await gate.acquire()
            yield response

    monkeypatch.setattr(Exchange, "PublishStream", held)
    return gate


async def until(condition: Any) -> None:
    """Let the event loop run until the condition holds; the test's timeout bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_each_record_has_its_outcome_and_they_keep_their_order() -> None:
    script = Script()
    bare = record(2)
    del bare.attributes["dataclassification"]
    async with connected(script) as exchange, exchange.publisher("t", SOON) as publisher:
        sent = [await publisher.send(each) for each in (record(1), bare, record(3), record(1, "other"))]
        outcomes = [await each for each in sent]
    assert [outcome.reason for outcome in outcomes] == [None, "LABEL_INVALID", None, "ID_REUSED"]
    assert outcomes[0] == PublishOutcome("//ems/cli", "1", b"00000000", False, b"of a call")
    assert isinstance(outcomes[3].error(), IdReused)
    assert [stored.id for stored in script.log] == ["1", "3"]


async def test_closing_sends_and_waits_for_what_lingers() -> None:
    script = Script()
    async with connected(script) as exchange, exchange.publisher("t", NEVER) as publisher:
        sent = [await publisher.send(record(number)) for number in range(3)]
    assert [stored.id for stored in script.log] == ["0", "1", "2"]
    assert all(each.done() and each.result().position is not None for each in sent)
    with pytest.raises(RuntimeError, match="inside"):
        await publisher.send(record(4))
    await publisher.close()


async def test_closing_the_client_drains_its_publishers() -> None:
    script = Script()
    async with connected(script) as exchange:
        publisher = await exchange.publisher("t", NEVER).__aenter__()
        sent = await publisher.send(record(1))
        await exchange.close()
        assert (await sent).position is not None
    assert [stored.id for stored in script.log] == ["1"]


async def test_a_flush_does_not_linger() -> None:
    script = Script()
    async with connected(script) as exchange, exchange.publisher("t", NEVER) as publisher:
        await publisher.flush()
        sent = await publisher.send(record(1))
        await publisher.flush()
        assert sent.done()
    assert [stored.id for stored in script.log] == ["1"]


async def test_a_full_batch_does_not_linger_and_is_cut_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    publish_stream = Exchange.PublishStream

    async def measured(self: Exchange, requests: Any, context: Any) -> Any:
        async def counted() -> AsyncIterator[Any]:
            async for request in requests:
                sizes.append(len(request.records))
                yield request

        async for response in publish_stream(self, counted(), context):
            yield response

    monkeypatch.setattr(Exchange, "PublishStream", measured)
    async with connected(Script()) as exchange, exchange.publisher("t", NEVER) as publisher:
        sent = [await publisher.send(record(number)) for number in range(BATCH_RECORDS + 1)]
        await asyncio.gather(*sent)
    assert sizes == [BATCH_RECORDS, 1]


@pytest.mark.parametrize(
    "options",
    [PublisherOptions(linger_s=0.0, max_waiting=2), PublisherOptions(linger_s=0.0, max_waiting_bytes=250)],
    ids=["records", "bytes"],
)
async def test_no_more_is_taken_than_may_wait(answers: asyncio.Semaphore, options: PublisherOptions) -> None:
    assert 100 < record(0).ByteSize() < 125
    async with connected(Script()) as exchange, exchange.publisher("t", options) as publisher:
        for number in range(2):
            await publisher.send(record(number))
        third, fourth = (asyncio.create_task(publisher.send(record(number))) for number in (2, 3))
        await asyncio.wait({third, fourth}, timeout=0.05)
        assert not (third.done() or fourth.done())
        for _ in range(4):
            answers.release()
        outcomes = [await (await each) for each in (third, fourth)]
    assert [(each.id, each.position) for each in outcomes] == [("2", b"00000002"), ("3", b"00000003")]


async def test_a_record_larger_than_what_may_wait_goes_alone() -> None:
    options = PublisherOptions(max_waiting_bytes=10)
    async with connected(Script()) as exchange, exchange.publisher("t", options) as publisher:
        sent = [await publisher.send(record(number)) for number in range(3)]
        assert [(await each).id for each in sent] == ["0", "1", "2"]


async def test_nothing_is_lost_or_reordered_over_breaks() -> None:
    script = Script(break_after=[1, 0, 0])
    async with connected(script) as exchange, exchange.publisher("t", SOON) as publisher:
        sent = []
        for number in range(20):
            sent.append(await publisher.send(record(number)))
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*sent)
    assert [outcome.id for outcome in outcomes] == [str(number) for number in range(20)]
    assert all(outcome.position is not None for outcome in outcomes)
    assert [stored.id for stored in script.log] == [str(number) for number in range(20)]
    assert script.break_after == []


async def test_a_failure_reaches_every_record_and_every_later_call() -> None:
    script = Script(refusals=_refusals("TOPIC_NOT_FOUND"))
    async with connected(script) as exchange:
        publisher = await exchange.publisher("t", NEVER).__aenter__()
        sent = [await publisher.send(record(number)) for number in range(2)]
        with pytest.raises(NotFound):
            await publisher.flush()
        for each in sent:
            with pytest.raises(NotFound):
                await each
        with pytest.raises(NotFound):
            await publisher.send(record(3))
        with pytest.raises(NotFound):
            await publisher.close()
    assert script.log == []


async def test_leaving_the_block_tells_of_a_failure_but_hides_no_other_error() -> None:
    script = Script(refusals=_refusals("TOPIC_NOT_FOUND", "TOPIC_NOT_FOUND"))
    async with connected(script) as exchange:
        with pytest.raises(NotFound):
            async with exchange.publisher("t") as publisher:
                await publisher.send(record(1))
        with pytest.raises(ZeroDivisionError):
            async with exchange.publisher("t") as publisher:
                await publisher.send(record(1))
                raise ZeroDivisionError


async def test_what_is_not_answered_in_time_is_told_to_be_unknown(answers: asyncio.Semaphore) -> None:
    options = PublisherOptions(linger_s=0.0, close_timeout_s=0.05)
    async with connected(Script()) as exchange:
        publisher = await exchange.publisher("t", options).__aenter__()
        sent = await publisher.send(record(1))
        with pytest.raises(Unavailable, match="not answered"):
            await publisher.close()
        with pytest.raises(Unavailable, match="not answered"):
            await sent


async def test_an_answer_that_does_not_come_is_asked_for_on_another_connection(
    answers: asyncio.Semaphore,
) -> None:
    script = Script()
    async with (
        connected(script, timeout_s=0.5, retry=Retry(1_000, 0.01, 0.01)) as exchange,
        exchange.publisher("t", SOON) as publisher,
    ):
        sent = await publisher.send(record(1))
        await until(lambda: script.calls["PublishStream"] > 1)
        for _ in range(1_000):
            answers.release()
        assert (await sent).position is not None
    assert [stored.id for stored in script.log] == ["1"]


async def test_an_exchange_that_never_answers_is_an_outage(answers: asyncio.Semaphore) -> None:
    async with connected(Script(), timeout_s=0.05) as exchange:
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
            await anext(exchange.publish_stream("t", [[record(1)]]))


async def test_a_cancelled_outcome_does_not_keep_the_others_from_theirs(answers: asyncio.Semaphore) -> None:
    async with connected(Script()) as exchange, exchange.publisher("t", SOON) as publisher:
        first, second = await publisher.send(record(1)), await publisher.send(record(2))
        first.cancel()
        answers.release()
        answers.release()
        assert (await second).id == "2"


async def test_an_idle_stream_is_given_up_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.publisher._IDLE_S", 0.01)
    script = Script()
    async with connected(script) as exchange, exchange.publisher("t", SOON) as publisher:
        await (await publisher.send(record(1)))
        pipe = publisher._pipe
        await until(lambda: pipe._call is None)
        assert (await (await publisher.send(record(2)))).position is not None
    assert script.calls["PublishStream"] == 2


async def test_receipts_are_kept_before_an_outcome_is_told(tmp_path: Path) -> None:
    kept = tmp_path / "receipts.jsonl"
    async with (
        connected(Script()) as exchange,
        exchange.publisher("t", SOON, receipts=kept) as publisher,
    ):
        await (await publisher.send(record(1)))
        assert kept.read_text().count("\n") == 1
    with pytest.raises(OSError, match=str(tmp_path)):
        async with (
            connected(Script()) as exchange,
            exchange.publisher("t", SOON, receipts=tmp_path) as publisher,
        ):
            await publisher.send(record(1))


def _refusals(*reasons: str) -> deque[tuple[grpc.StatusCode, str]]:
    return deque((grpc.StatusCode.NOT_FOUND, reason) for reason in reasons)
