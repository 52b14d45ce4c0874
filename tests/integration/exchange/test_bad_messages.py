"""Garbage, truncated and oversized messages on every method: a catalogued answer, never a bare UNKNOWN."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from broker.errors import Reason
from broker.rpc.services import PACKAGE
from protos.entente.v1 import (
    catalog_pb2,
    exchange_pb2,
    ledger_pb2,
    overlays_pb2,
    rulebook_pb2,
    subscriptions_pb2,
)
from protos.entente.v1.exchange_pb2 import Open, PublishRequest, SubscribeRequest
from tests.integration.exchange.failure import Failure, failure_in, failure_of
from tests.integration.exchange.live import Caller, Live
from tests.integration.exchange.records import event

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

LIMITS = {"message_bytes": 65_536, "record_bytes": 32_768}
METHODS = {
    f"{service.name}/{method.name}": method
    for file in (exchange_pb2, subscriptions_pb2, catalog_pb2, ledger_pb2, rulebook_pb2, overlays_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
STREAMS = {name for name, method in METHODS.items() if method.server_streaming}
GARBAGE = {
    "random": bytes(range(255, 155, -1)),
    "wire type 7": b"\x0f\x01",
    "field 0": b"\x00\x00",
    "length beyond the end": b"\x0a\xff\xff\xff\x0f",
    "not UTF-8": b"\x0a\x02\xff\xfe",
    "varint of 11 bytes": b"\x08" + b"\xff" * 11,
    "truncated": PublishRequest(topic="t", records=[event("t", "//ems/x", {"a": 1})]).SerializeToString()[
        :-3
    ],
}


def caller_of(live: Live, name: str) -> Caller:
    """Somebody who may call the method: what others send is not even looked at."""
    return live.caller("ems-admin" if name.startswith(("Rulebook/", "Overlays/")) else "ems")


async def send(caller: Caller, name: str, message: bytes) -> Failure | None:
    """The failure of a call with this one message, of bytes; None if it succeeds."""
    path = f"/{PACKAGE}.{name}"
    try:
        if name in STREAMS:
            call = caller.channel.stream_stream(path)(metadata=caller.metadata, timeout=20)
            await call.write(message)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await caller.channel.unary_unary(path)(message, metadata=caller.metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    except grpc.aio.UsageError:
        return await ended(call)
    return await ended(call) if name in STREAMS else None


async def ended(call: grpc.aio.Call) -> Failure | None:
    """The failure of a stream that has ended."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return None
    details = await call.details()
    return failure_of(
        grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), details)
    )


@pytest.mark.parametrize("message", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("name", METHODS)
async def test_garbage_is_refused_with_a_reason(live: Live, name: str, message: bytes) -> None:
    failure = await send(caller_of(live, name), name, message)
    if failure is None:
        # What is no field that the message knows is well-formed, and text is looked at only where text is expected.
        fields = METHODS[name].input_type.fields
        assert not fields or (fields[0].type != fields[0].TYPE_STRING and message == GARBAGE["not UTF-8"])
        return
    failure.check_shape()
    assert failure.reason == "REQUEST_INVALID"
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", METHODS)
async def test_a_message_over_the_limit_is_refused_with_a_reason(live: Live, name: str) -> None:
    failure = await send(
        caller_of(live, name), name, b"\x0a" + (65_600).to_bytes(3, "little") + b"a" * 65_600
    )
    assert failure is not None
    failure.check_shape()
    assert failure.reason == "MESSAGE_TOO_LARGE"
    assert "65536" in failure.message


@pytest.mark.parametrize("name", METHODS)
async def test_what_the_transport_itself_refuses_is_never_unknown(live: Live, name: str) -> None:
    failure = await send(caller_of(live, name), name, b"a" * 200_000)
    assert failure is not None
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", METHODS)
async def test_an_empty_message_is_answered(live: Live, name: str) -> None:
    failure = await send(caller_of(live, name), name, b"")
    if failure is not None:
        failure.check_shape()
        assert failure.code is not grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("path", ["Exchange/Nothing", "Nothing/Publish", "Exchange/publish"])
async def test_an_unknown_method_has_a_reason(live: Live, path: str) -> None:
    caller = live.caller("ems")
    call = caller.channel.unary_unary(f"/{PACKAGE}.{path}")(b"", metadata=caller.metadata, timeout=20)
    failure = await failure_in(call)
    failure.check_shape()
    assert failure.reason == Reason.METHOD_UNKNOWN.name
    assert failure.code is grpc.StatusCode.UNIMPLEMENTED


STREAMS_OUT_OF_ORDER = {
    "no message": [],
    "credit first": [SubscribeRequest(credit=exchange_pb2.Credit(records=1))],
    "nothing in it": [SubscribeRequest()],
    "opened twice": [
        SubscribeRequest(open=Open(topic="crash-reports", purpose="emergency-response")),
        SubscribeRequest(open=Open(topic="crash-reports", purpose="emergency-response")),
    ],
    "unknown message after": [
        SubscribeRequest(open=Open(topic="crash-reports", purpose="emergency-response")),
        SubscribeRequest(),
    ],
}


@pytest.mark.parametrize("messages", STREAMS_OUT_OF_ORDER.values(), ids=STREAMS_OUT_OF_ORDER)
async def test_a_stream_out_of_order_has_a_reason(live: Live, messages: list[SubscribeRequest]) -> None:
    caller = live.caller("ems")
    call = caller.exchange.Subscribe(metadata=caller.metadata, timeout=20)
    try:
        for message in messages:
            await call.write(message)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    except (grpc.aio.AioRpcError, grpc.aio.UsageError):
        pass  # the status below says how it ended
    failure = await ended(call)
    assert failure is not None
    failure.check_shape()
    assert failure.reason == "STREAM_PROTOCOL"


async def test_garbage_on_an_open_stream_has_a_reason(live: Live) -> None:
    caller = live.caller("ems")
    call = caller.channel.stream_stream(f"/{PACKAGE}.Exchange/Subscribe")(
        metadata=caller.metadata, timeout=20
    )
    opening = Open(topic="crash-reports", purpose="emergency-response")
    await call.write(SubscribeRequest(open=opening).SerializeToString())
    await call.write(b"\x0f\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    failure = failure_of(caught.value)
    failure.check_shape()
    assert failure.reason == "REQUEST_INVALID"


@pytest.mark.parametrize("purpose", ["", "cyber-defence", "no-such-purpose", "x\ny" * 1000])
async def test_a_purpose_that_is_not_the_callers(live: Live, purpose: str) -> None:
    async with live.caller("ems").stream("crash-reports", purpose=purpose) as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert failure.reason == "PURPOSE_NOT_PERMITTED"
    assert failure.info is not None
    assert "emergency-response" in failure.info.metadata["vocabulary"].split(",")
    assert "\n" not in failure.message


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253402300800])
async def test_a_time_that_does_not_exist(live: Live, seconds: int) -> None:
    caller = live.caller("ems")
    async with caller.stream("crash-reports", time=Timestamp(seconds=seconds)) as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert failure.reason == "REQUEST_INVALID"
    request = subscriptions_pb2.CreateSubscriptionRequest(
        name="t", topic="crash-reports", purpose="emergency-response"
    )
    getattr(request, "from").time.seconds = seconds
    failure = await failure_in(caller.subscriptions.CreateSubscription(request, metadata=caller.metadata))
    assert failure.reason == "REQUEST_INVALID"


@pytest.mark.parametrize("name", ["Upper", "a" * 65, "a/b", "a\nb", "ü"])
async def test_what_cannot_name_a_subscription(live: Live, name: str) -> None:
    async with live.caller("ems").stream("crash-reports", subscription=name) as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert failure.reason == "REQUEST_INVALID"


@pytest.mark.parametrize(
    "credit", [{"records": 1_000_001}, {"bytes": 2**63}, {"records": 1, "bytes": 257 << 20}]
)
async def test_credit_beyond_the_limit(live: Live, credit: dict[str, int]) -> None:
    async with live.caller("ems").stream("crash-reports", credit=exchange_pb2.Credit(**credit)) as stream:
        failure = await stream.failure()
    failure.check_shape()
    assert failure.reason == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("count", [0, 1_001])
async def test_too_few_or_too_many_records(live: Live, count: int) -> None:
    caller = live.caller("highway-patrol")
    records = [event("t", "//highway-patrol/x", "1", id=str(n)) for n in range(count)]
    for record in records:
        record.ClearField("attributes")
    failure = await failure_in(caller.publish("crash-reports", *records))
    failure.check_shape()
    assert failure.reason == "REQUEST_INVALID"
