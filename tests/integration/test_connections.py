"""Connections that bring no call: how many a listener holds, and how long. Raw sockets, which never speak."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from broker.app import connections
from broker.app.config import Limits
from broker.app.connections import RESERVED_FILES, room_for, server_options

PATIENCE_S = 60.0
_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def listening(limits: Limits, listeners: int = 1) -> AsyncIterator[list[int]]:
    """The ports of a server with the options of an exchange's."""
    server = grpc.aio.server(options=server_options(limits, listeners))
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(listeners)]
    await server.start()
    try:
        yield ports
    finally:
        await server.stop(None)


@asynccontextmanager
async def silent(port: int, count: int) -> AsyncIterator[list[_Pair]]:
    """So many connections on which nobody says anything."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def is_held(pair: _Pair) -> bool:
    """Whether the server greets it, which it does at once without TLS; else it has closed it."""
    try:
        return bool(await pair[0].read(1))
    except ConnectionResetError:
        return False


async def test_a_listener_holds_so_many_connections_and_closes_the_next_ones() -> None:
    limits = Limits(connections=3, handshake_s=120.0)
    async with listening(limits, 2) as (one, other), silent(one, 5) as first, silent(other, 3) as second:
        async with asyncio.timeout(PATIENCE_S):
            held = [await is_held(pair) for pair in (*first, *second)]
        assert (sum(held[:5]), sum(held[5:])) == (3, 3)


async def test_one_that_leaves_makes_room() -> None:
    async with listening(Limits(connections=1, handshake_s=120.0)) as (port,):
        async with silent(port, 1) as (pair,), asyncio.timeout(PATIENCE_S):
            assert await is_held(pair)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with silent(port, 1) as (pair,):
                    if await is_held(pair):
                        break


async def test_one_that_stays_silent_is_closed() -> None:
    limits = Limits(handshake_s=0.2, idle_connection_s=1.0)
    async with listening(limits) as (port,), silent(port, 1) as (pair,), asyncio.timeout(PATIENCE_S):
        while await is_held(pair):
            pass


async def test_a_client_whose_idle_connection_was_closed_opens_another_by_itself() -> None:
    async with (
        listening(Limits(idle_connection_s=1.0)) as (port,),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        asyncio.timeout(PATIENCE_S),
    ):
        await channel.channel_ready()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            await channel.unary_unary("/no/such")(b"")
        assert answered.value.code() is grpc.StatusCode.UNIMPLEMENTED, "the server has answered"


@pytest.mark.parametrize(
    ("soft", "hard", "room", "raised"),
    [
        (100_000, 100_000, 2_000, None),
        (1_024, 100_000, 2_000, 4_000 + RESERVED_FILES),
        (1_024, -1, 2_000, 4_000 + RESERVED_FILES),
        (-1, -1, 2_000, None),
        (1_024, 1_512, 500, 1_512),
        (100, 200, 1, 200),
    ],
)
def test_a_process_holds_no_more_than_it_may_open_files(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    room: int,
    raised: int | None,
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, both: told.append(both))
    with caplog.at_level(logging.WARNING):
        assert room_for(2_000, 2) == room
    assert told == ([] if raised is None else [(raised, hard)])
    assert bool(caplog.records) is (room < 2_000)
    assert resource.RLIM_INFINITY == -1
