"""A whole exchange in this process: real TLS, real OPA, the embedded stores, the generated client stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from broker.adapters.clock import SystemClock
from broker.app.config import load_config
from broker.app.initialise import DEFAULT_RULEBOOK, initialise
from broker.app.server import Ready, running
from broker.app.tokens import mint_token, read_issuer_key
from protos.entente.v1 import (
    catalog_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    ledger_pb2_grpc,
    subscriptions_pb2_grpc,
)
from protos.entente.v1.exchange_pb2 import Credit, Open, SubscribeRequest, SubscribeResponse
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.integration.exchange.failure import Failure, failure_of
from tests.services.ledger_file import ledger_entries
from tests.services.ports import free_port

AUDIENCE = "entente-development"
HEARTBEAT_S = 0.15


@dataclass(frozen=True)
class Person:
    """A sample principal's claims."""

    agency: str
    subject: str
    role: str
    purpose: str
    clearance: str


PEOPLE = {
    "highway-patrol": Person("highway-patrol", "officer-1", "officer", "law-enforcement", "red"),
    "ems": Person("ems", "paramedic-1", "paramedic", "emergency-response", "red"),
    "transport": Person("transport", "analyst-1", "analyst", "road-safety-statistics", "amber"),
    "cyber-centre": Person("cyber-centre", "analyst-1", "analyst", "cyber-defence", "red"),
    "partner-cert": Person("partner-cert", "analyst-1", "analyst", "cyber-defence", "green"),
    "auditor-1": Person("exchange", "auditor-1", "auditor", "exchange-administration", "clear"),
    "highway-patrol-admin": Person("highway-patrol", "admin-1", "agency-admin", "law-enforcement", "red"),
    "ems-admin": Person("ems", "admin-1", "agency-admin", "emergency-response", "red"),
    "transport-admin": Person("transport", "admin-1", "agency-admin", "road-safety-statistics", "amber"),
}


@dataclass
class Live:
    """A running exchange."""

    directory: Path
    ready: Ready
    channel: grpc.aio.Channel
    mtls_channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    def token(self, name: str, **changes: Any) -> str:
        """A token of a sample principal; `changes` are arguments of mint_token."""
        person = PEOPLE[name]
        arguments: dict[str, Any] = {
            "subject": person.subject,
            "roles": [person.role],
            "purposes": [person.purpose],
            "attributes": {"clearance": person.clearance},
            "audience": AUDIENCE,
            "ttl_s": 600,
            "clock": SystemClock(),
        }
        key = read_issuer_key(self.directory / "issuers" / f"{person.agency}.json")
        return mint_token(key, **{**arguments, **changes})

    def caller(self, name: str, **changes: Any) -> Caller:
        """A sample principal with a fresh token."""
        return Caller(
            self, PEOPLE[name], self.channel, (("authorization", f"Bearer {self.token(name, **changes)}"),)
        )

    def mtls_channel(self, name: str) -> grpc.aio.Channel:
        """A channel to the mTLS listener that presents this agency's client certificate."""
        if name not in self.mtls_channels:
            tls = self.directory / "tls"
            credentials = grpc.ssl_channel_credentials(
                (tls / "ca.pem").read_bytes(),
                (tls / "clients" / f"{name}.key").read_bytes(),
                (tls / "clients" / f"{name}.pem").read_bytes(),
            )
            assert self.ready.mtls_address is not None
            self.mtls_channels[name] = grpc.aio.secure_channel(self.ready.mtls_address, credentials)
        return self.mtls_channels[name]

    def ledger(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The bodies of all entries, or those of one kind, in order."""
        return [{"kind": entry.kind, **entry.body} for entry in ledger_entries(self.directory, kind)]


@dataclass
class Caller:
    """A principal's stubs and calls."""

    live: Live
    person: Person
    channel: grpc.aio.Channel
    metadata: Sequence[tuple[str, str]]

    @property
    def exchange(self) -> exchange_pb2_grpc.ExchangeStub:
        return exchange_pb2_grpc.ExchangeStub(self.channel)

    @property
    def subscriptions(self) -> subscriptions_pb2_grpc.SubscriptionsStub:
        return subscriptions_pb2_grpc.SubscriptionsStub(self.channel)

    @property
    def catalog(self) -> catalog_pb2_grpc.CatalogStub:
        return catalog_pb2_grpc.CatalogStub(self.channel)

    @property
    def ledger(self) -> ledger_pb2_grpc.LedgerStub:
        return ledger_pb2_grpc.LedgerStub(self.channel)

    async def publish(self, topic: str, *records: CloudEvent) -> list[exchange_pb2.PublishResult]:
        """One result for each record."""
        request = exchange_pb2.PublishRequest(topic=topic, records=records)
        return list((await self.exchange.Publish(request, metadata=self.metadata, timeout=20)).results)

    async def publish_all(self, topic: str, *records: CloudEvent) -> None:
        """As publish; every record has to be accepted."""
        results = await self.publish(topic, *records)
        assert [r.refused.reason for r in results] == [""] * len(records)

    @asynccontextmanager
    async def stream(self, topic: str, **opening: Any) -> AsyncIterator[Stream]:
        """A stream that has been opened; `opening` are fields of Open, with credit for 100 records unless told."""
        stream = Stream(self.exchange.Subscribe(metadata=self.metadata, timeout=60))
        fields = {"purpose": self.person.purpose, "credit": Credit(records=100), **opening}
        try:
            await stream.send(open=Open(topic=topic, **fields))
            yield stream
        finally:
            stream.call.cancel()


class Stream:
    """A Subscribe call, read message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.seen: list[SubscribeResponse] = []

    async def send(self, **message: Any) -> None:
        """One SubscribeRequest."""
        await self.call.write(SubscribeRequest(**message))

    async def half_close(self) -> None:
        """No more requests."""
        await self.call.done_writing()

    async def read(self) -> SubscribeResponse | None:
        """The next message; None once the stream has ended with OK. Raises Failure."""
        try:
            message = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from None
        if message is grpc.aio.EOF:
            if await self.call.code() is not grpc.StatusCode.OK:
                raise await _ended(self.call)
            return None
        self.seen.append(message)
        return message

    async def next(self, kind: str) -> Any:
        """The next message of one kind, past others; fails the test if the stream ends before."""
        while (message := await self.read()) is not None:
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)
        raise AssertionError(f"the stream ended with OK before a {kind}")

    async def opened(self) -> Any:
        """The first message."""
        return await self.next("opened")

    async def deliveries(self, count: int) -> list[exchange_pb2.Delivery]:
        """The next so many deliveries; batches must not hold more."""
        found: list[exchange_pb2.Delivery] = []
        while len(found) < count:
            found.extend((await self.next("batch")).deliveries)
        assert len(found) == count
        return found

    async def ids(self, count: int) -> list[str]:
        """The ids of the next so many records."""
        return [delivery.record.id for delivery in await self.deliveries(count)]

    async def beats(self, count: int) -> list[SubscribeResponse]:
        """All messages until so many heartbeats have come."""
        begin = len(self.seen)
        for _ in range(count):
            await self.next("heartbeat")
        return self.seen[begin:]

    async def acknowledge(self, cursor: bytes) -> None:
        """Ack and wait until it is durable."""
        await self.send(ack=exchange_pb2.Ack(cursor=cursor))
        await self.next("acked")

    async def rest(self) -> list[SubscribeResponse]:
        """Everything until the stream ends with OK."""
        messages: list[SubscribeResponse] = []
        while (message := await self.read()) is not None:
            messages.append(message)
        return messages

    async def failure(self) -> Failure:
        """How the stream fails; what comes before is kept in `seen`."""
        try:
            await self.rest()
        except Failure as failure:
            return failure
        raise AssertionError("the stream ended with OK")


async def _ended(call: Any) -> Failure:
    error = grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
    return failure_of(error)


@asynccontextmanager
async def running_live(
    directory: Path,
    opa: Path,
    *,
    rulebook: Path = DEFAULT_RULEBOOK,
    limits: Mapping[str, float] | None = None,
) -> AsyncIterator[Live]:
    """An exchange made by `initialise` and served in this event loop; started again if the directory holds one."""
    if not await asyncio.to_thread(directory.exists):
        initialise(directory, f"127.0.0.1:{free_port(2)}", rulebook=rulebook)
        _configure(directory / "entente.toml", opa, limits or {})
    async with running(load_config(directory / "entente.toml")) as ready:
        ca = (directory / "tls" / "ca.pem").read_bytes()
        channel = grpc.aio.secure_channel(ready.tls_address, grpc.ssl_channel_credentials(ca))
        live = Live(directory, ready, channel)
        try:
            yield live
        finally:
            for each in (channel, *live.mtls_channels.values()):
                await each.close()


def _configure(path: Path, opa: Path, limits: Mapping[str, float]) -> None:
    chosen = {"heartbeat_s": HEARTBEAT_S, "drain_s": 0.0, **limits}
    lines = "".join(f"{name} = {value}\n" for name, value in chosen.items())
    text = path.read_text().replace("[rulebook]\n", f'[rulebook]\nopa = "{opa}"\n')
    path.write_text(f"{text}\n[limits]\n{lines}")
