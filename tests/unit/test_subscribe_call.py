"""The call that carries a stream: what it opens is closed again, its end keeps its own cause, heartbeats show the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from broker.core import acknowledgements
from broker.core.deliver import fanout
from broker.errors import EntenteError, Reason
from broker.rpc import subscribe
from broker.rpc.call import Call
from broker.rpc.interceptors import IdentityInterceptor
from broker.rpc.quotas import QuotaLimits, Quotas
from broker.rpc.subscribe import StreamTimes, SubscribeServicer
from protos.entente.v1.exchange_pb2 import Credit, Open, SubscribeRequest, SubscribeResponse
from tests.fakes.chains import read_chains
from tests.fakes.delivery import TOPIC, WITHHOLD, ScriptedDecider
from tests.fakes.streams import StreamWorld

pytestmark = pytest.mark.usefixtures("quick_groups")


class Connection:
    """As much of a ServicerContext as a stream uses; None in `sent` is the client's half-close."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.received: asyncio.Queue[SubscribeResponse] = asyncio.Queue()

    def send(self, **message: Any) -> None:
        self.sent.put_nowait(SubscribeRequest(**message).SerializeToString())

    async def read(self) -> bytes | None:
        return await self.sent.get()

    async def write(self, message: bytes) -> None:
        self.received.put_nowait(SubscribeResponse.FromString(message))

    async def next(self, kind: str) -> Any:
        """The next message of a kind."""
        while True:
            message = await asyncio.wait_for(self.received.get(), 30)
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)


@pytest.fixture
async def world() -> AsyncIterator[StreamWorld]:
    made = StreamWorld()
    yield made
    await made.close()


def servicer(world: StreamWorld, checkpoint: bytes = b"", *, heartbeat_s: float = 60.0) -> SubscribeServicer:
    """Over the world's streams."""
    return SubscribeServicer(
        streams=world.streams,
        fanout=world.fanout,
        identity=cast(IdentityInterceptor, None),
        quotas=Quotas(QuotaLimits(), world.clock),
        times=StreamTimes(heartbeat_s=heartbeat_s, slow_consumer_s=60.0, drain_s=0.0),
        message_bytes=1 << 20,
        checkpoint=lambda: checkpoint,
    )


def calling(world: StreamWorld, served: SubscribeServicer) -> tuple[Connection, asyncio.Task[None]]:
    """A call that has sent `open`."""
    connection = Connection()
    call = Call("Subscribe", cast(Any, connection), "a-reference", principal=world.principal("p-1"))
    connection.send(open=Open(topic=TOPIC, purpose="work", credit=Credit(records=5)))
    return connection, asyncio.ensure_future(served.subscribe(call))


async def test_what_a_call_opened_when_it_was_cancelled_is_closed_again(world: StreamWorld) -> None:
    served = servicer(world)
    world.ledger.hold = asyncio.Event()
    _, call = calling(world, served)
    await world.ledger.asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    world.ledger.hold.set()
    await served.settle()
    assert [entry.kind for entry in world.ledger.entries] == ["stream_opened", "moved", "stream_closed"]
    (chain,) = read_chains(world.log, world.ledger.entries).values()
    assert chain.ended == "cancelled"


async def test_a_call_cancelled_while_its_stream_cannot_be_opened_leaves_nothing(world: StreamWorld) -> None:
    served = servicer(world)
    world.ledger.hold, world.ledger.failures = asyncio.Event(), 1
    _, call = calling(world, served)
    await world.ledger.asked.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    world.ledger.hold.set()
    await served.settle()
    assert world.ledger.entries == []


async def test_an_end_that_the_ledger_cannot_take_is_answered_with_its_own_cause(world: StreamWorld) -> None:
    served = servicer(world)
    connection, call = calling(world, served)
    await connection.next("opened")
    world.ledger.failures = 1
    connection.send(open=Open(topic=TOPIC))
    with pytest.raises(EntenteError) as ended:
        await call
    assert ended.value.reason is Reason.STREAM_PROTOCOL
    await served.settle()
    (chain,) = read_chains(world.log, world.ledger.entries).values()
    assert chain.ended == "STREAM_PROTOCOL"


async def test_a_stream_whose_rights_end_has_the_decision_in_its_last_entry(world: StreamWorld) -> None:
    served = servicer(world)
    connection, call = calling(world, served)
    await connection.next("opened")
    denying = ScriptedDecider()
    denying.answer = lambda _: WITHHOLD
    await world.switch(denying)
    with pytest.raises(EntenteError) as ended:
        await asyncio.wait_for(call, 30)
    assert ended.value.reason is Reason.POLICY_DENIED
    await served.settle()
    (closed,) = world.ledger.of("stream_closed")
    body: Any = closed.body
    (decision,) = body["end"]["decisions"]
    subject = decision["input"]["subject"]
    assert (subject["agency"], subject["id"], decision["input"]["topic"]) == ("consumer", "p-1", TOPIC)
    assert (decision["output"]["effect"], body["end"]["cause"]) == ("withhold", "POLICY_DENIED")
    assert "under" not in decision, "the rules that ended it are those of its entry"


async def test_an_end_that_no_decision_caused_names_none(world: StreamWorld) -> None:
    served = servicer(world)
    connection, call = calling(world, served)
    await connection.next("opened")
    connection.send(open=Open(topic=TOPIC))
    with pytest.raises(EntenteError):
        await asyncio.wait_for(call, 30)
    await served.settle()
    (closed,) = world.ledger.of("stream_closed")
    assert set(cast(Any, closed.body)["end"]) == {"cause", "standing"}


async def test_heartbeats_carry_the_newest_checkpoint(world: StreamWorld) -> None:
    served = servicer(world, b"a signed note", heartbeat_s=0.001)
    connection, call = calling(world, served)
    assert (await connection.next("heartbeat")).checkpoint == b"a signed note"
    connection.sent.put_nowait(None)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await served.settle()


async def test_batches_carry_receipts_and_acknowledgements_are_entered_at_the_end(world: StreamWorld) -> None:
    served = servicer(world)
    connection, call = calling(world, served)
    await connection.next("opened")
    for number in range(5):
        await world.store("alpha", str(number))
    received = 0
    while received < 5:
        batch = await connection.next("batch")
        received += len(batch.deliveries)
        assert world.receipts.open(batch.receipt, "consumer", "p-1").place.instance == "broker"
    connection.send(ack={"cursor": batch.cursor})
    await connection.next("acked")
    connection.sent.put_nowait(None)
    await call
    await served.settle()
    assert [entry.kind for entry in world.ledger.entries[-2:]] == ["acknowledged", "stream_closed"]
    body: Any = world.ledger.entries[-1].body
    assert body["end"] == {"cause": "completed", "standing": {"next": [5], "lags": []}}


async def test_a_ledger_that_does_not_answer_does_not_keep_the_broker_from_stopping(
    world: StreamWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((fanout, "CLOSE_S"), (acknowledgements, "SETTLE_S"), (subscribe, "SETTLE_S")):
        monkeypatch.setattr(module, name, 0.001)
    served = servicer(world)
    connection, call = calling(world, served)
    await connection.next("opened")
    world.ledger.hold = asyncio.Event()
    await world.store("alpha", "0")
    await world.idle()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.wait_for(world.fanout.close(), 30)
    await asyncio.wait_for(served.settle(), 30)
    assert world.ledger.of("stream_closed") == []
    world.ledger.hold.set()  # it answers after all, and nothing was lost
    await world.idle()
    await served.settle()
    (chain,) = read_chains(world.log, world.ledger.entries).values()
    assert (chain.handed_out, chain.ended) == ([[(0, 0)], []], "cancelled")
