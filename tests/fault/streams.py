"""Streams of a broker in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protos.entente.v1 import exchange_pb2_grpc
from protos.entente.v1.exchange_pb2 import Credit, Open
from tests.integration.exchange.live import Stream
from tests.services.broker import BrokerProcess


@asynccontextmanager
async def stream(
    broker: BrokerProcess, context: str = "partner-cert", **opening: object
) -> AsyncIterator[Stream]:
    """An opened stream; vulnerabilities for cyber-defence, with credit for 100 records, unless `opening` says else."""
    fields = {
        "topic": "vulnerabilities",
        "purpose": "cyber-defence",
        "credit": Credit(records=100),
        **opening,
    }
    async with broker.channel() as channel:
        call = exchange_pb2_grpc.ExchangeStub(channel).Subscribe(metadata=broker.metadata(context))
        opened = Stream(call)
        try:
            await opened.send(open=Open(**fields))  # type: ignore[arg-type]
            yield opened
        finally:
            call.cancel()
