"""Health, reflection and keepalive, and a subscriber that stops reading."""

from __future__ import annotations

import asyncio
import ssl

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import Credit, Open, SubscribeRequest
from tests.integration.exchange.failure import failure_of
from tests.integration.exchange.live import Live
from tests.integration.exchange.rulebooks import ALERTS, alert, with_alerts

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
RULEBOOK = with_alerts
CONNECTIONS = 40
LIMITS = {
    **{"slow_consumer_s": 2.0, "stream_buffer_bytes": 1_000_000},
    **{"connections": CONNECTIONS, "handshake_s": 120.0},
}
SERVICES = {"entente.v1.Exchange", "entente.v1.Subscriptions", "entente.v1.Catalog"}


async def reflect(live: Live, **request: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(live.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=20)
    async for response in call:
        return response
    raise AssertionError("reflection did not answer")


async def test_reflection_lists_the_services_without_a_token(live: Live) -> None:
    response = await reflect(live, list_services="")
    listed = {service.name for service in response.list_services_response.service}
    assert listed >= SERVICES | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_reflection_describes_every_method(live: Live) -> None:
    for service in SERVICES:
        response = await reflect(live, file_containing_symbol=service)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(raw)
            for raw in response.file_descriptor_response.file_descriptor_proto
        ]
        names = {f"{file.package}.{each.name}" for file in files for each in file.service}
        assert service in names


async def test_health_answers_without_a_token(live: Live) -> None:
    stub = health_pb2_grpc.HealthStub(live.channel)
    for service in ("", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.such"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Type, flags and payload of one HTTP/2 frame (RFC 9113 §4.1)."""
    header = await reader.readexactly(9)
    return header[3], header[4], await reader.readexactly(int.from_bytes(header[:3], "big"))


@pytest.mark.slow
async def test_pings_ten_seconds_apart_are_accepted(live: Live) -> None:
    """Without any call, and even five seconds apart: the fifth would earn a GOAWAY under gRPC's default policy."""
    context = ssl.create_default_context(cafile=str(live.directory / "tls/ca.pem"))
    context.set_alpn_protocols(["h2"])
    host, _, port = live.ready.tls_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]))
    for number in range(5):
        await asyncio.sleep(5.2 if number else 0)  # the time itself is what is tested
        payload = number.to_bytes(8, "big")
        writer.write(bytes([0, 0, 8, PING, 0, 0, 0, 0, 0]) + payload)
        answered = False
        while not answered:
            kind, flags, content = await asyncio.wait_for(read_frame(reader), 20)
            assert kind != GOAWAY, content
            if kind == SETTINGS and not flags & ACK:
                writer.write(bytes([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]))
            answered = (kind, flags & ACK, content) == (PING, ACK, payload)
    writer.transport.abort()


async def test_a_subscriber_that_stops_reading_is_ended_and_costs_nobody_else(live: Live) -> None:
    """It grants much and reads nothing: what is kept for it is bounded, others of its class go on, then it ends."""
    ems = live.caller("ems")
    # A window of its own, so that the transport does not take in what nobody reads.
    ca = (live.directory / "tls/ca.pem").read_bytes()
    options = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
    address = live.ready.tls_address
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca), options=options) as channel:
        stuck_caller = live.caller("ems", subject="paramedic-3")
        stuck_caller.channel = channel
        stuck = channel.stream_stream(
            "/entente.v1.Exchange/Subscribe", request_serializer=SubscribeRequest.SerializeToString
        )(metadata=stuck_caller.metadata, timeout=60)
        latest = exchange_pb2.START_POSITION_LATEST
        opening = Open(topic=ALERTS, purpose="emergency-response", position=latest)
        opening.credit.MergeFrom(Credit(records=100_000, bytes=200 << 20))
        await stuck.write(SubscribeRequest(open=opening))
        async with ems.stream(
            ALERTS, credit=Credit(records=1_000, bytes=200 << 20), position=latest
        ) as reading:
            await reading.opened()
            for number in range(20):
                records = [alert("highway-patrol", f"{number} {'x' * 200_000}") for _ in range(3)]
                await live.caller("highway-patrol").publish_all(ALERTS, *records)
                assert await reading.ids(3) == [record.id for record in records]
            while not [e for e in live.ledger("stream_closed") if e["who"]["subject"] == "paramedic-3"]:
                await reading.next("heartbeat")
        (closed,) = [e for e in live.ledger("stream_closed") if e["who"]["subject"] == "paramedic-3"]
        assert closed["end"]["cause"] == "CONSUMER_TOO_SLOW"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await stuck.read() is not grpc.aio.EOF:
                pass
        failure = failure_of(caught.value)
        failure.check_shape()
        assert failure.reason == "CONSUMER_TOO_SLOW"


async def test_strangers_that_only_connect_are_bounded_and_end_no_stream(live: Live) -> None:
    host, _, port = live.ready.tls_address.rpartition(":")
    latest = exchange_pb2.START_POSITION_LATEST
    async with live.caller("ems").stream(ALERTS, credit=Credit(records=1), position=latest) as stream:
        await stream.opened()
        strangers = [await asyncio.open_connection(host, int(port)) for _ in range(CONNECTIONS)]
        reading = [asyncio.ensure_future(reader.read(1)) for reader, _ in strangers]
        try:
            done, _ = await asyncio.wait(reading, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            assert done, "the stream's connection is one of those that the listener holds"
            record = alert("highway-patrol", "still heard")
            await live.caller("highway-patrol").publish_all(ALERTS, record)
            assert await stream.ids(1) == [record.id]
        finally:
            for _, writer in strangers:
                writer.transport.abort()
            await asyncio.gather(*reading, return_exceptions=True)
