"""The Python client against a real broker: restarts, takeover, refresh, bound tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.adapters.clock import SystemClock
from broker.app.tokens import mint_token, read_issuer_key, read_thumbprint
from connectors.client import Client
from connectors.cloudevents import new_record
from connectors.errors import EntenteClientError
from connectors.publisher import PublisherOptions
from connectors.publishing import PublishOutcome
from connectors.retry import Retry
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.services.broker import BrokerProcess

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENT = Retry(attempts=60, first_s=0.2, longest_s=1.0)
TOPIC, PURPOSE = "vulnerabilities", "cyber-defence"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of the test's own, running."""
    own = BrokerProcess(tmp_path / "exchange")
    own.start()
    try:
        yield own
    finally:
        own.stop()


def token(
    process: BrokerProcess, agency: str, clearance: str, *, ttl_s: int = 600, bound: bool = False
) -> str:
    """A token of an agency's analyst, bound to the agency's certificate if wanted."""
    directory = process.directory
    return mint_token(
        read_issuer_key(directory / "issuers" / f"{agency}.json"),
        subject="analyst-1",
        roles=["analyst"],
        purposes=[PURPOSE],
        attributes={"clearance": clearance},
        audience=process.config.exchange.audience,
        ttl_s=ttl_s,
        clock=SystemClock(),
        thumbprint=read_thumbprint(directory / "tls" / "clients" / f"{agency}.pem") if bound else None,
    )


def client(process: BrokerProcess, agency: str, clearance: str, *, ttl_s: int = 600) -> Client:
    """A patient client on the TLS listener, with a new token whenever one is due."""
    return Client(
        process.config.listen.tls,
        token_provider=lambda: token(process, agency, clearance, ttl_s=ttl_s),
        ca_file=process.directory / "tls" / "ca.pem",
        retry=PATIENT,
    )


def vulnerability(number: int) -> CloudEvent:
    """A record that partner-cert may see."""
    labels = {"dataclassification": "clear"}
    name = f"CVE-0-{number}"
    return new_record(
        type="gov.cisa.kev.v1", source="//cyber-centre/test", id=name, data={"cveID": name}, labels=labels
    )


@pytest_asyncio.fixture(loop_scope="session")
async def pair(process: BrokerProcess) -> AsyncIterator[tuple[Client, Client]]:
    """The owner of the vulnerabilities, and a reader."""
    async with (
        client(process, "cyber-centre", "red") as owner,
        client(process, "partner-cert", "green") as reader,
    ):
        yield owner, reader


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "drained"])
async def test_nothing_is_lost_over_a_restart(
    process: BrokerProcess, pair: tuple[Client, Client], crash: bool
) -> None:
    owner, reader = pair
    seen: list[str] = []
    begun = asyncio.Event()

    async def read() -> None:
        async with reader.subscribe(TOPIC, PURPOSE, subscription="s", reconnect=PATIENT) as stream:
            async for delivery in stream:
                assert delivery.record is not None
                seen.append(delivery.record.id)
                begun.set()
                await stream.ack(delivery)
                if len(set(seen)) == 3_000:
                    return

    async def write_batches() -> list[PublishOutcome]:
        batches = ([vulnerability(number + offset) for offset in range(50)] for number in range(0, 3_000, 50))
        return [each async for answered in owner.publish_stream(TOPIC, batches) for each in answered]

    async def write_one_by_one() -> list[PublishOutcome]:
        """The end of the block waits for all answers."""
        options = PublisherOptions(max_waiting=200, close_timeout_s=110)
        async with owner.publisher(TOPIC, options) as publisher:
            sent = [await publisher.send(vulnerability(number)) for number in range(3_000)]
        return [each.result() for each in sent]

    write = write_batches if crash else write_one_by_one
    reading, writing = asyncio.create_task(read()), asyncio.create_task(write())
    await begun.wait()
    await asyncio.to_thread(process.kill if crash else process.stop)
    await asyncio.to_thread(process.start)
    outcomes = await writing
    assert [outcome.id for outcome in outcomes] == [f"CVE-0-{number}" for number in range(3_000)]
    assert all(outcome.position is not None for outcome in outcomes)
    await reading
    assert set(seen) == {f"CVE-0-{number}" for number in range(3_000)}


async def test_the_first_of_two_streams_is_told_and_does_not_take_it_back(
    pair: tuple[Client, Client],
) -> None:
    owner, reader = pair
    await owner.publish(TOPIC, [vulnerability(1)])
    async with reader.subscribe(TOPIC, PURPOSE, subscription="s") as first:
        delivery = await anext(first)
        waiting = asyncio.create_task(anext(first))
        async with reader.subscribe(TOPIC, PURPOSE, subscription="s") as second:
            again = await anext(second)
            assert again.record == delivery.record
            with pytest.raises(EntenteClientError, match="SUBSCRIPTION_TAKEN_OVER"):
                await waiting
            await second.ack(again)
            await owner.publish(TOPIC, [vulnerability(2)])
            newest = await anext(second)
            assert newest.record is not None
            assert newest.record.id == "CVE-0-2"
            await second.ack(newest)
    async with reader.subscribe(TOPIC, PURPOSE, subscription="s", idle_timeout_s=1.0) as third:
        assert [each async for each in third] == []


async def test_a_stream_outlives_its_first_token(process: BrokerProcess) -> None:
    """Tokens of four seconds: the exchange ends a stream at its token's end, leeway included, unless refreshed."""
    process.stop()
    process.change({"limits": {"token_leeway_s": 0}})
    process.start()
    async with (
        client(process, "cyber-centre", "red") as owner,
        client(process, "partner-cert", "green", ttl_s=4) as reader,
        reader.subscribe(TOPIC, PURPOSE, reconnect=Retry(attempts=1)) as stream,
    ):
        for number in range(4):
            await owner.publish(TOPIC, [vulnerability(number)])
            delivery = await anext(stream)
            assert (delivery.session, delivery.record.id if delivery.record else "") == (1, f"CVE-0-{number}")
            if number < 3:
                await asyncio.sleep(2.5)  # the passing of time is what is tested


async def test_a_bound_token_is_good_with_its_certificate_only(process: BrokerProcess) -> None:
    directory, mtls = process.directory, process.config.listen.mtls
    assert mtls is not None
    bound = token(process, "partner-cert", "green", bound=True)
    files = (
        directory / "tls" / "clients" / "partner-cert.pem",
        directory / "tls" / "clients" / "partner-cert.key",
    )
    others = directory / "tls" / "clients" / "ems.pem", directory / "tls" / "clients" / "ems.key"
    ca_file = directory / "tls" / "ca.pem"
    async with Client(mtls, token=bound, ca_file=ca_file, client_certificate=files) as exchange:
        assert (await exchange.who_am_i()).agency == "partner-cert"
    async with Client(mtls, token=bound, ca_file=ca_file, client_certificate=others) as exchange:
        with pytest.raises(EntenteClientError, match="TOKEN_BINDING"):
            await exchange.who_am_i()
    async with Client(process.config.listen.tls, token=bound, ca_file=ca_file) as exchange:
        with pytest.raises(EntenteClientError, match="TOKEN_BINDING"):
            await exchange.who_am_i()
