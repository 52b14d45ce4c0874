"""Subscribing with the client: credit, acknowledgements, reconnects without loss, heartbeats, refresh, closing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Unpack

import grpc
import pytest

from connectors.delivery import Delivery, StreamChoices
from connectors.errors import EntenteClientError, Unavailable
from connectors.retry import Retry
from connectors.stream import RecordStream
from protos.entente.v1 import exchange_pb2
from tests.services.exchange import Exchange, Script, running_exchange
from tests.unit.test_client_calls import client, jwt_until, record

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")

QUICK = Retry(attempts=4, first_s=0.01, longest_s=0.02)


def filled(count: int, **changes: object) -> Script:
    """An exchange that holds records 0 to count - 1."""
    return Script(log=[record(number) for number in range(count)], **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def subscribed(script: Script, **choices: Unpack[StreamChoices]) -> AsyncIterator[RecordStream]:
    """An open stream on a running exchange."""
    async with (
        running_exchange(script) as endpoint,
        client(endpoint) as exchange,
        exchange.subscribe("t", "p", **choices) as stream,
    ):
        yield stream


async def ids(stream: AsyncIterator[Delivery]) -> list[str]:
    """The ids of all deliveries until the stream ends."""
    return [delivery.record.id if delivery.record else "notice" async for delivery in stream]


async def until(condition: object) -> None:
    """Let the event loop run until the condition holds; the test's timeout bounds it."""
    while not condition():  # type: ignore[operator]  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_credit_never_exceeds_the_limit_and_the_stream_ends_there() -> None:
    script = filled(100)
    async with subscribed(script, limit=10, max_in_flight=4) as stream:
        assert await ids(stream) == [str(number) for number in range(10)]
    assert script.opens[0].credit.records == 4
    assert script.opens[0].credit.records + sum(credit.records for credit in script.credits) == 10


async def test_credit_comes_back_for_what_was_handed_out() -> None:
    script = filled(50, batch_size=100)
    async with subscribed(script, max_in_flight=8, limit=50) as stream:
        assert len(await ids(stream)) == 50
    granted = script.opens[0].credit.records + sum(credit.records for credit in script.credits)
    assert granted == 50
    assert all(credit.records <= 8 for credit in script.credits)
    assert all(credit.bytes > 0 for credit in script.credits)


async def test_the_byte_credit_given_back_is_what_the_exchange_counts() -> None:
    script = filled(7, batch_size=7)
    async with subscribed(script, limit=7) as stream:
        used = [delivery.size_bytes async for delivery in stream]
    shown = exchange_pb2.Disclosure(effect=exchange_pb2.EFFECT_RELEASE, masked=["criminal"])
    entries = [exchange_pb2.Delivery(record=each, disclosure=shown) for each in script.log]
    assert sum(used) == exchange_pb2.Batch(deliveries=entries).ByteSize()


async def test_acknowledgements_are_durable_when_the_stream_closes() -> None:
    script = filled(7)
    async with subscribed(script, subscription="s", limit=7) as stream:
        async for delivery in stream:
            await stream.ack(delivery)
    assert script.positions["s"] == 7
    assert script.acks == [b"1:3", b"1:6", b"1:7"]  # once a batch


async def test_an_unconfirmed_acknowledgement_is_an_error_on_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.stream._CLOSE_TIMEOUT_S", 0.05)
    script = filled(3, confirm_acks=False)
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="not confirmed"):
            async with exchange.subscribe("t", "p", subscription="s", limit=3) as stream:
                async for delivery in stream:
                    await stream.ack(delivery)


async def test_without_a_name_nothing_is_acknowledged() -> None:
    script = filled(3)
    async with subscribed(script, limit=3) as stream:
        async for delivery in stream:
            await stream.ack(delivery)
        assert stream.cursor == b"1:3"
    assert script.acks == []


async def test_each_cursor_is_safe_to_resume_from() -> None:
    script = filled(8)
    async with subscribed(script, limit=8) as stream:
        cursors = [delivery.cursor async for delivery in stream]
    assert cursors == [b"1:0", b"1:0", b"1:3", b"1:3", b"1:3", b"1:6", b"1:6", b"1:8"]
    for number, cursor in enumerate(cursors):
        remaining = 8 - int(cursor.split(b":")[1])
        async with subscribed(script, start=cursor, limit=remaining) as stream:
            seen = await ids(stream)
        assert set(map(str, range(number + 1, 8))) <= set(seen)


@pytest.mark.parametrize("name", [None, "s"])
async def test_a_broken_stream_resumes_and_nothing_is_lost(name: str | None) -> None:
    script = filled(20, break_after=[4, 1, 7])
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        seen = []
        async with exchange.subscribe("t", "p", subscription=name, limit=60, reconnect=QUICK) as stream:
            async for delivery in stream:
                assert delivery.record is not None
                seen.append(int(delivery.record.id))
                await stream.ack(delivery)
                if seen[-1] == 19:
                    break
    assert sorted(set(seen)) == list(range(20))
    assert all(later <= earlier + 1 for earlier, later in pairwise(seen))  # repeats perhaps, never skips
    assert len(script.opens) == 4


async def test_an_unnamed_stream_resumes_at_its_cursor_also_from_latest() -> None:
    script = filled(3, break_after=[1])
    async with subscribed(script, start="latest", limit=2, reconnect=QUICK) as stream:
        waiting = asyncio.create_task(ids(stream))
        await until(lambda: stream.cursor == b"1:3")
        await script.append(record(3))
        await until(lambda: len(script.opens) == 2)
        await script.append(record(4))
        assert await waiting == ["3", "4"]
    assert script.opens[0].position == exchange_pb2.START_POSITION_LATEST
    assert script.opens[1].WhichOneof("from") == "cursor"


async def test_a_stream_that_cannot_be_resumed_raises_after_bounded_attempts() -> None:
    script = filled(3)
    script.refusals.extend([(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")] * 99)
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="STORAGE_UNAVAILABLE"):
            async with exchange.subscribe("t", "p", reconnect=QUICK) as stream:
                await ids(stream)
    assert script.calls["Subscribe"] == 4


async def test_a_refused_stream_raises_at_once() -> None:
    script = filled(3)
    script.refusals.append((grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND"))
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="TOPIC_NOT_FOUND"):
            async with exchange.subscribe("t", "p", reconnect=QUICK) as stream:
                await ids(stream)
    assert script.calls["Subscribe"] == 1


async def test_a_draining_instance_is_left_after_the_last_acknowledgement() -> None:
    script = filled(9, drain_after=[3])
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        seen = []
        async with exchange.subscribe("t", "p", subscription="s", limit=30, reconnect=QUICK) as stream:
            async for delivery in stream:
                assert delivery.record is not None
                seen.append(delivery.record.id)
                await stream.ack(delivery)
                if seen[-1] == "8" and len(script.opens) == 2:
                    break
                if len(seen) == 9 and len(script.opens) == 1:
                    await script.append(record(9))
                if seen[-1] == "9":
                    break
    assert len(script.opens) == 2
    assert seen == sorted(seen)


async def test_idleness_ends_the_stream_and_an_outage_does_not_count() -> None:
    script = filled(3)
    script.refusals.extend([(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")] * 3)
    slow = Retry(attempts=9, first_s=0.5, longest_s=0.5)  # together longer than the idle time
    async with subscribed(script, idle_timeout_s=0.6, reconnect=slow) as stream:
        assert await ids(stream) == ["0", "1", "2"]


async def test_a_heartbeat_moves_a_subscription_whose_deliveries_are_dealt_with() -> None:
    script = filled(3)
    async with subscribed(script, subscription="s") as stream:
        for _ in range(3):
            await stream.ack(await anext(stream))
        reading = asyncio.create_task(ids(stream))
        script.heartbeats.put_nowait(None)
        await until(lambda: len(script.acks) == 2)
        reading.cancel()
    assert script.acks == [b"1:3", b"1:3:h"]


async def test_a_heartbeat_never_moves_past_what_is_not_dealt_with() -> None:
    script = filled(3)
    async with subscribed(script, subscription="s") as stream:
        for _ in range(3):
            last = await anext(stream)
        reading = asyncio.create_task(ids(stream))
        script.heartbeats.put_nowait(None)
        await until(lambda: stream.cursor == b"1:3:h")
        assert script.acks == []
        await stream.ack(last)
        reading.cancel()
    assert script.acks == [b"1:3"]


async def test_a_token_is_refreshed_on_the_open_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.session._REFRESH_PAUSE_S", 0.01)
    tokens = iter([jwt_until(time.time() + 0.04, "one"), second := jwt_until(time.time() + 3_600, "two")])
    script = filled(1)
    async with (
        running_exchange(script) as endpoint,
        client(endpoint, token=None, token_provider=lambda: next(tokens)) as exchange,
        exchange.subscribe("t", "p") as stream,
    ):
        await anext(stream)
        await until(lambda: script.refreshes)
    assert script.refreshes == [second]
    assert len(script.opens) == 1


async def test_notices_are_deliveries_without_a_record() -> None:
    script = filled(1, notices={"0"})
    async with subscribed(script, limit=1) as stream:
        delivery = await anext(stream)
    assert delivery.record is None
    assert delivery.notice is not None
    assert delivery.notice.contact == "o@example.org"
    assert delivery.disclosure.effect == exchange_pb2.EFFECT_NOTICE


async def test_withdrawals_are_deliveries_of_their_own_kind_and_are_acknowledged() -> None:
    script = filled(1, withdrawn={"0"})
    async with subscribed(script, limit=1) as stream:
        delivery = await anext(stream)
        await stream.ack(delivery)
    assert (delivery.record, delivery.notice) == (None, None)
    assert delivery.withdrawal is not None
    assert (delivery.withdrawal.id, delivery.withdrawal.reason) == ("0", "wrong")
    assert (
        delivery.size_bytes
        == exchange_pb2.Batch(deliveries=[exchange_pb2.Delivery(withdrawal=delivery.withdrawal)]).ByteSize()
    )


async def test_a_policy_change_stands_between_what_came_before_and_after_it() -> None:
    script = filled(6, change_after=[3])
    async with subscribed(script, subscription="s", limit=6) as stream:
        seen = [delivery async for delivery in stream]
        await stream.ack(seen[3])
    assert [each.record.id if each.record else None for each in seen] == ["0", "1", "2", None, "3", "4", "5"]
    assert [each.policy_change is not None for each in seen] == [each.record is None for each in seen]
    assert (seen[3].cursor, seen[3].size_bytes) == (seen[2].cursor, 0)
    assert script.acks == [b"1:3"]
    assert script.opens[0].credit.records + sum(credit.records for credit in script.credits) == 6


@pytest.mark.parametrize("most", [1, 2, 100])
async def test_several_at_once_are_the_same_as_one_by_one(most: int) -> None:
    seen: list[Delivery] = []
    script = filled(20, change_after=[6], batch_size=6)
    async with subscribed(script, subscription="s", limit=20, max_in_flight=7) as stream:
        while found := await stream.several(most):
            assert len(found) <= most
            seen += found
        await stream.ack(seen[-1])
    assert script.opens[0].credit.records + sum(credit.records for credit in script.credits) == 20
    assert script.acks == [b"1:20"]
    async with subscribed(
        filled(20, change_after=[6], batch_size=6), subscription="s", limit=20, max_in_flight=7
    ) as stream:
        alone = [each async for each in stream]
    assert [each.record for each in seen] == [each.record for each in alone]
    assert all(each.cursor for each in seen)
    assert sum(each.policy_change is not None for each in seen) == 1


async def test_a_policy_change_that_comes_first_acknowledges_nothing() -> None:
    script = filled(1, change_after=[0])
    async with subscribed(script, subscription="s", limit=1) as stream:
        told = await anext(stream)
        await stream.ack(told)
    assert told.policy_change is not None
    assert (told.cursor, script.acks) == (b"1:0", [])


async def test_heartbeats_go_on_being_acknowledged_after_a_policy_change() -> None:
    script = filled(3, change_after=[3])
    async with subscribed(script, subscription="s") as stream:
        for _ in range(3):
            await stream.ack(await anext(stream))
        assert (await anext(stream)).policy_change is not None
        script.heartbeats.put_nowait(None)
        waiting = asyncio.create_task(ids(stream))
        await until(lambda: len(script.acks) == 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert script.acks == [b"1:3", b"1:3:h"]


async def test_an_abandoned_stream_closes_without_waiting_for_unused_credit() -> None:
    script = filled(1)
    async with subscribed(script) as stream:
        await anext(stream)
        begun = time.monotonic()
        await stream.close()
    assert time.monotonic() - begun < 1


async def test_a_stream_is_only_read_inside_its_block() -> None:
    async with running_exchange(Script()) as endpoint, client(endpoint) as exchange:
        stream: RecordStream = exchange.subscribe("t", "p")
        with pytest.raises(RuntimeError, match="async with"):
            await anext(stream)


async def test_a_stream_that_shows_no_sign_of_life_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.session._SHORTEST_SILENCE_S", 0.0)
    script = filled(1, heartbeat_interval_ms=100)
    async with subscribed(script, reconnect=Retry(1_000, 0.01, 0.01)) as stream:
        first = await anext(stream)
        await until(lambda: len(script.opens) > first.session)
        await script.append(record(1))
        second = await anext(stream)
    assert (first.record, second.record) == tuple(script.log)
    assert second.session > first.session


async def test_an_exchange_that_never_opens_the_stream_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stalled(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Exchange, "Subscribe", stalled)
    async with (
        running_exchange(Script()) as endpoint,
        client(endpoint, timeout_s=0.1) as exchange,
        exchange.subscribe("t", "p", reconnect=Retry(attempts=2, first_s=0.01)) as stream,
    ):
        with pytest.raises(Unavailable, match=f"{endpoint}: no sign of life for 0.1 s"):
            await anext(stream)


async def test_who_reads_a_stream_that_is_closed_is_at_its_end() -> None:
    async with subscribed(filled(1)) as stream:
        await anext(stream)
        waiting = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0)
        await stream.close()
        assert await waiting is None
        with pytest.raises(RuntimeError, match="inside"):
            await anext(stream)
