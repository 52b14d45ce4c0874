"""A stream's life at the wire: credit, half-close, acknowledgement, resuming, takeover, refresh, expiry."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from broker.adapters.clock import SystemClock
from protos.entente.v1 import exchange_pb2, subscriptions_pb2
from protos.entente.v1.exchange_pb2 import START_POSITION_LATEST, Ack, Credit, Refresh
from tests.fakes.clock import TurnedClock
from tests.integration.exchange.failure import Failure, failure_in
from tests.integration.exchange.live import Caller, Live, Stream
from tests.integration.exchange.records import unique
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
RULEBOOK = with_alerts
LIMITS = {"streams_per_agency": 8}
CURSOR_BYTES = 294
LATEST = {"position": START_POSITION_LATEST}


async def publish(live: Live, count: int, agency: str = "highway-patrol", **labels: str) -> list[str]:
    """So many alerts in one call; their ids."""
    records = [alert(agency, f"alert {number}", **labels) for number in range(count)]
    await live.caller(agency).publish_all(ALERTS, *records)
    return [record.id for record in records]


def kinds(messages: list[exchange_pb2.SubscribeResponse]) -> set[str | None]:
    return {message.WhichOneof("message") for message in messages}


async def test_opened_comes_first_and_names_the_interval(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, **LATEST) as stream:
        first = await stream.read()
        assert first is not None
        assert first.WhichOneof("message") == "opened"
        assert first.opened.heartbeat_interval_ms == 150
        assert len(first.opened.cursor) == CURSOR_BYTES


async def test_without_credit_nothing_arrives_but_heartbeats(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, credit=Credit(), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 5)
        assert kinds(await stream.beats(4)) == {"heartbeat"}
        await stream.send(credit=Credit(records=2))
        assert await stream.ids(2) == names[:2]
        assert kinds(await stream.beats(2)) == {"heartbeat"}


async def test_credit_is_cut_to_the_record_and_adds_up(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, credit=Credit(records=3), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 12)
        assert await stream.ids(3) == names[:3]
        assert kinds(await stream.beats(2)) == {"heartbeat"}
        await stream.send(credit=Credit(records=2))
        await stream.send(credit=Credit(records=4))
        assert await stream.ids(6) == names[3:9]
        assert kinds(await stream.beats(2)) == {"heartbeat"}


async def test_credit_in_bytes_lets_one_record_exceed_it(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, credit=Credit(records=100, bytes=1), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 3)
        assert await stream.ids(1) == names[:1]
        assert kinds(await stream.beats(2)) == {"heartbeat"}
        await stream.send(credit=Credit(bytes=1 << 16))
        assert await stream.ids(2) == names[1:]


async def test_half_close_delivers_what_was_granted_and_ends_with_ok(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, credit=Credit(records=4), **LATEST) as stream:
        await stream.opened()
        await stream.half_close()
        first = await publish(live, 2)
        assert await stream.ids(2) == first
        second = await publish(live, 5)
        messages = await stream.rest()
    assert [d.record.id for m in messages for d in m.batch.deliveries] == second[:2]


async def test_half_close_without_credit_ends_at_once(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, credit=Credit(), **LATEST) as stream:
        await stream.half_close()
        assert kinds(await stream.rest()) <= {"opened", "heartbeat"}


async def test_an_acknowledgement_before_half_close_is_stored_and_answered(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name, credit=Credit(records=2), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 3)
        batch = await stream.next("batch")
        while len(batch.deliveries) < 2:
            batch.MergeFrom(await stream.next("batch"))
        await stream.send(ack=Ack(cursor=batch.cursor))
        await stream.half_close()
        messages = await stream.rest()
    assert [m.acked.cursor for m in messages if m.HasField("acked")] == [batch.cursor]
    async with caller.stream(ALERTS, subscription=name) as stream:
        assert await stream.ids(1) == names[2:]


async def test_a_named_subscription_resumes_from_its_last_acknowledgement(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name, credit=Credit(records=2), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 6)
        cursor = await upto(stream, 2)
        await stream.acknowledge(cursor)
        await stream.send(credit=Credit(records=2))
        assert await stream.ids(2) == names[2:4]
    async with caller.stream(ALERTS, subscription=name) as stream:
        assert await stream.ids(4) == names[2:]
    # What was received without an acknowledgement comes again, and again.
    async with caller.stream(ALERTS, subscription=name) as stream:
        assert await stream.ids(4) == names[2:]


async def upto(stream: Stream, count: int) -> bytes:
    """The cursor after the next so many deliveries."""
    found = 0
    while found < count:
        batch = await stream.next("batch")
        found += len(batch.deliveries)
    assert found == count
    return bytes(batch.cursor)


async def test_an_older_acknowledgement_changes_nothing(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name, credit=Credit(records=1), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 3)
        first = await upto(stream, 1)
        await stream.send(credit=Credit(records=1))
        second = await upto(stream, 1)
        for cursor in (second, first, second, first):
            await stream.acknowledge(cursor)
    async with caller.stream(ALERTS, subscription=name) as stream:
        assert await stream.ids(1) == names[2:]


async def test_an_unnamed_stream_resumes_from_its_own_cursor(live: Live) -> None:
    caller = live.caller("ems")
    async with caller.stream(ALERTS, credit=Credit(records=2), **LATEST) as stream:
        await stream.opened()
        names = await publish(live, 4)
        cursor = await upto(stream, 2)
        await stream.acknowledge(cursor)
    async with caller.stream(ALERTS, cursor=cursor) as stream:
        assert await stream.ids(2) == names[2:]


async def test_from_a_time(live: Live) -> None:
    await publish(live, 2)
    (recorded,) = (await received(live, "highway-patrol", await publish(live, 1)))[-1:]
    async with live.caller("ems").stream(ALERTS, time=recorded) as stream:
        found = await stream.ids(1)
    assert len(found) == 1
    async with live.caller("ems").stream(ALERTS, time=Timestamp(seconds=253402300799)) as stream:
        await stream.opened()
        assert kinds(await stream.beats(2)) == {"heartbeat"}


async def received(live: Live, name: str, wanted: list[str]) -> list[Timestamp]:
    """`recordedtime` of the wanted records, as their owner sees it."""
    times: list[Timestamp] = []
    async with live.caller(name).stream(ALERTS, credit=Credit(records=10_000)) as stream:
        while len(times) < len(wanted):
            batch = await stream.next("batch")
            times += [
                d.record.attributes["recordedtime"].ce_timestamp
                for d in batch.deliveries
                if d.record.id in wanted
            ]
    return times


async def bad_cursor(caller: Caller, cursor: bytes, **opening: object) -> Failure:
    async with caller.stream(ALERTS, cursor=cursor, **opening) as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert stream.seen == []
    return failure


async def test_cursors_that_are_not_the_callers(live: Live) -> None:
    ems, other = live.caller("ems"), live.caller("ems", subject="paramedic-2")
    name = unique("s")
    async with ems.stream(ALERTS) as stream, ems.stream(ALERTS, subscription=name) as named:
        mine = (await stream.opened()).cursor
        of_named = (await named.opened()).cursor
    tampered = mine[:-1] + bytes([mine[-1] ^ 1])
    hp = live.caller("highway-patrol")
    async with hp.stream("crash-reports") as stream:
        of_topic = (await stream.opened()).cursor
    position = (await hp.publish(ALERTS, alert("highway-patrol", "x")))[0].accepted.position
    for caller, cursor in [
        (other, mine),
        (hp, mine),
        (ems, tampered),
        (ems, of_named),
        (ems, b""),
        (ems, mine + b"x"),
        (ems, b"\xff" * CURSOR_BYTES),
        (hp, of_topic),
        (hp, position),
    ]:
        assert (await bad_cursor(caller, cursor)).reason == "CURSOR_INVALID"


@pytest.mark.parametrize("subscription", ["", "named"])
async def test_acknowledging_what_was_never_received(live: Live, subscription: str) -> None:
    caller = live.caller("ems")
    async with caller.stream(ALERTS, credit=Credit(records=50), **LATEST) as ahead:
        await ahead.opened()
        await publish(live, 2)
        future = await upto(ahead, 2)
        for cursor, reason in [
            (future, "ACK_REFUSED" if not subscription else "CURSOR_INVALID"),
            (b"x" * CURSOR_BYTES, "CURSOR_INVALID"),
            (b"", "CURSOR_INVALID"),
        ]:
            async with caller.stream(
                ALERTS, subscription=subscription and unique("s"), credit=Credit()
            ) as stream:
                await stream.opened()
                await stream.send(ack=Ack(cursor=cursor))
                failure = await stream.failure()
            failure.check_shape()
            assert failure.reason == reason


async def test_a_cursor_of_an_earlier_stream_is_no_acknowledgement(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name) as stream:
        old = (await stream.opened()).cursor
    async with caller.stream(ALERTS, subscription=name) as stream:
        await stream.opened()
        await stream.send(ack=Ack(cursor=old))
        assert (await stream.failure()).reason == "ACK_REFUSED"


async def test_a_second_stream_takes_the_subscription_over(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name, **LATEST) as first:
        await first.opened()
        old = (await first.next("heartbeat")).cursor
        async with caller.stream(ALERTS, subscription=name) as second:
            await second.opened()
            failure = await first.failure()
            failure.check_shape()
            assert failure.reason == "SUBSCRIPTION_TAKEN_OVER"
            names = await publish(live, 2)
            assert await second.ids(2) == names
            await second.send(ack=Ack(cursor=old))
            assert (await second.failure()).reason == "ACK_REFUSED"
    assert "SUBSCRIPTION_TAKEN_OVER" in [entry["end"]["cause"] for entry in live.ledger("stream_closed")]


async def test_the_former_streams_acknowledgement_is_refused_or_it_has_ended(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name, credit=Credit(records=1), **LATEST) as first:
        await first.opened()
        names = await publish(live, 1)
        cursor = await upto(first, 1)
        async with caller.stream(ALERTS, subscription=name, credit=Credit()) as second:
            await second.opened()
            # What meets the end on its way fails without the broker's status.
            with contextlib.suppress(grpc.aio.AioRpcError):
                with contextlib.suppress(asyncio.InvalidStateError):  # it has ended already
                    await first.send(ack=Ack(cursor=cursor))
                assert (await first.failure()).reason in ("ACK_REFUSED", "SUBSCRIPTION_TAKEN_OVER")
            await second.send(credit=Credit(records=1))
            assert await second.ids(1) == names


async def test_two_names_of_a_principal_and_two_principals_with_one_name_do_not_meet(live: Live) -> None:
    name = unique("s")
    one, two = live.caller("ems"), live.caller("ems", subject="paramedic-2")
    async with (
        one.stream(ALERTS, subscription=name, **LATEST) as first,
        two.stream(ALERTS, subscription=name, **LATEST) as second,
        one.stream(ALERTS, subscription=unique("s"), **LATEST) as third,
    ):
        for stream in (first, second, third):
            await stream.opened()
        names = await publish(live, 2)
        for stream in (first, second, third):
            assert await stream.ids(2) == names


async def test_a_subscription_with_another_topic_or_purpose(live: Live) -> None:
    caller, name = live.caller("ems"), unique("s")
    async with caller.stream(ALERTS, subscription=name) as stream:
        await stream.opened()
    async with caller.stream("crash-reports", subscription=name) as stream:
        assert (await stream.failure()).reason == "SUBSCRIPTION_EXISTS"


async def test_subscriptions_are_managed_by_their_principal(live: Live) -> None:
    caller, name = live.caller("ems", subject="paramedic-9"), unique("s")
    stub, metadata = caller.subscriptions, caller.metadata
    create = subscriptions_pb2.CreateSubscriptionRequest(
        name=name, topic=ALERTS, purpose="emergency-response"
    )
    getattr(create, "from").latest = True
    first = (await stub.CreateSubscription(create, metadata=metadata)).subscription
    again = (await stub.CreateSubscription(create, metadata=metadata)).subscription
    assert (first.name, first.topic, first.purpose) == (name, ALERTS, "emergency-response")
    assert len(first.cursor) == CURSOR_BYTES
    assert first.cursor != again.cursor
    assert first.create_time == again.create_time
    names = await publish(live, 2)
    async with caller.stream(ALERTS, subscription=name) as stream:
        await stream.acknowledge(await upto(stream, 2))
        seek = subscriptions_pb2.SeekSubscriptionRequest(name=name, to={"earliest": True})
        await stub.SeekSubscription(seek, metadata=metadata)
        assert (await stream.failure()).reason == "SUBSCRIPTION_TAKEN_OVER"
    async with caller.stream(ALERTS, subscription=name, credit=Credit(records=10_000)) as stream:
        found: list[str] = []
        while names[-1] not in found:
            found += [d.record.id for d in (await stream.next("batch")).deliveries]
        listed = await stub.ListSubscriptions(subscriptions_pb2.ListSubscriptionsRequest(), metadata=metadata)
        assert [s.name for s in listed.subscriptions] == [name]
        await stub.DeleteSubscription(
            subscriptions_pb2.DeleteSubscriptionRequest(name=name), metadata=metadata
        )
        assert (await stream.failure()).reason == "SUBSCRIPTION_TAKEN_OVER"
    get = stub.GetSubscription(subscriptions_pb2.GetSubscriptionRequest(name=name), metadata=metadata)
    assert (await failure_in(get)).reason == "SUBSCRIPTION_NOT_FOUND"
    getattr(create, "from").cursor = first.cursor
    made = (await stub.CreateSubscription(create, metadata=metadata)).subscription
    to_cursor = subscriptions_pb2.SeekSubscriptionRequest(name=name, to={"cursor": made.cursor})
    assert (await stub.SeekSubscription(to_cursor, metadata=metadata)).subscription.name == name
    failed = await failure_in(
        stub.SeekSubscription(
            subscriptions_pb2.SeekSubscriptionRequest(name=name, to={"cursor": b"\xff" * CURSOR_BYTES}),
            metadata=metadata,
        )
    )
    assert failed.reason == "CURSOR_INVALID"
    changes = [e["change"] for e in live.ledger("subscription") if e["change"]["subscription"] == name]
    assert [each["change"] for each in changes] == ["create", "create", "seek", "delete", "create", "seek"]
    moves = [e["move"]["cause"] for e in live.ledger("moved") if e["stream"]["subscription"] == name]
    assert moves[0] == "created"
    assert moves.count("seek") == 2


async def test_a_principal_has_a_limited_number_of_subscriptions(live: Live) -> None:
    caller = live.caller("ems", subject="collector")
    for number in range(100):
        create = subscriptions_pb2.CreateSubscriptionRequest(
            name=f"s{number}", topic=ALERTS, purpose="emergency-response"
        )
        await caller.subscriptions.CreateSubscription(create, metadata=caller.metadata)
    async with caller.stream(ALERTS, subscription="s99") as stream:
        await stream.opened()
    async with caller.stream(ALERTS, subscription="one-too-many") as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert failure.reason == "LIMIT_EXCEEDED"
    again = await caller.subscriptions.CreateSubscription(create, metadata=caller.metadata)
    assert again.subscription.name == "s99"


async def test_a_refresh_with_another_principal_is_refused(live: Live) -> None:
    caller = live.caller("ems")
    tokens = {
        live.token("ems", subject="paramedic-2"): "REFRESH_REFUSED",
        live.token("transport"): "REFRESH_REFUSED",
        live.token("ems", clock=TurnedClock(SystemClock().now_ms() - 7_200_000)): "TOKEN_EXPIRED",
        "x": "TOKEN_INVALID",
        "": "TOKEN_INVALID",
    }
    for token, reason in tokens.items():
        async with caller.stream(ALERTS, **LATEST) as stream:
            await stream.opened()
            await stream.send(refresh=Refresh(token=token))
            failure = await stream.failure()
        failure.check_shape()
        assert failure.reason == reason


async def test_a_refresh_that_no_longer_permits_the_purpose_ends_the_stream(live: Live) -> None:
    async with live.caller("ems").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        await stream.send(refresh=Refresh(token=live.token("ems", purposes=[])))
        assert (await stream.failure()).reason in ("PURPOSE_NOT_PERMITTED", "TOKEN_INVALID")


async def test_the_end_of_the_token_ends_the_stream_unless_it_is_refreshed(live: Live) -> None:
    ending = live.caller("ems", ttl_s=4)
    async with ending.stream(ALERTS, **LATEST) as stream, ending.stream(ALERTS, **LATEST) as refreshed:
        await stream.opened()
        await refreshed.opened()
        await refreshed.send(refresh=Refresh(token=live.token("ems")))
        failure = await stream.failure()
        failure.check_shape()
        assert failure.reason == "TOKEN_EXPIRED"
        names = await publish(live, 1)
        assert await refreshed.ids(1) == names


async def test_a_refresh_decides_anew_for_another_class(live: Live) -> None:
    """With the clearance of the new token, amber is not for the stream any more; green still is."""
    async with live.caller("ems").stream(ALERTS, **LATEST) as stream:
        await stream.opened()
        first = await publish(live, 1, dataclassification="amber")
        assert await stream.ids(1) == first
        await stream.send(refresh=Refresh(token=live.token("ems", attributes={"clearance": "green"})))
        await stream.acknowledge((await stream.next("heartbeat")).cursor)
        await publish(live, 1, dataclassification="amber")
        last = await publish(live, 1)
        assert await stream.ids(1) == last


async def test_streams_per_agency_are_limited(live: Live) -> None:
    caller = live.caller("transport")
    streams = []
    try:
        for _ in range(LIMITS["streams_per_agency"]):
            context = caller.stream(ALERTS)
            stream = await context.__aenter__()
            streams.append(context)
            await stream.opened()
        async with caller.stream(ALERTS) as stream:
            failure = await stream.failure()
        failure.check_shape()
        assert failure.reason == "LIMIT_EXCEEDED"
        async with live.caller("ems").stream(ALERTS) as stream:
            await stream.opened()
    finally:
        for context in streams:
            await context.__aexit__(None, None, None)
