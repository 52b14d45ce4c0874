"""A small in-memory exchange behind the real protos, for testing clients: it can be told to refuse, break and drain.

Cursors are readable here on purpose: "<connection>:<position>", with ":h" on a heartbeat's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.entente.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    subscriptions_pb2,
    subscriptions_pb2_grpc,
)
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Context = grpc.aio.ServicerContext[Any, Any]


async def refuse(context: Context, code: grpc.StatusCode, reason: str, **metadata: str) -> NoReturn:
    """End the call as the exchange does: a Status with exactly one ErrorInfo."""
    info = error_details_pb2.ErrorInfo(
        reason=reason, domain="entente", metadata={"reference": "ref-1", **metadata}
    )
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=f"Refused with {reason}.", details=[detail])
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort returned")


@dataclass
class Script:
    """What the exchange holds, what it is to do next, and what it saw."""

    log: list[CloudEvent] = field(default_factory=list)
    refusals: deque[tuple[grpc.StatusCode, str]] = field(default_factory=deque)  # one for each coming call
    batch_size: int = 3
    break_after: list[int] = field(default_factory=list)  # deliveries after which each coming stream breaks
    drain_after: list[int] = field(default_factory=list)
    change_after: list[int] = field(default_factory=list)  # then a policy change
    notices: set[str] = field(default_factory=set)  # ids that are delivered as notices
    withdrawn: set[str] = field(default_factory=set)  # ids that are delivered as withdrawals
    tokens: list[str] = field(default_factory=list)
    opens: list[exchange_pb2.Open] = field(default_factory=list)
    credits: list[exchange_pb2.Credit] = field(default_factory=list)
    acks: list[bytes] = field(default_factory=list)
    refreshes: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)  # by subscription
    confirm_acks: bool = True
    half_closed: int = 0
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    heartbeats: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    permitted: bool = True
    heartbeat_interval_ms: int = 20_000  # as it is told; heartbeats come as the test says

    async def enter(self, context: Context, method: str) -> None:
        """Note the call and its token; refuse it if that comes next."""
        self.calls[method] += 1
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.append(str(metadata.get("authorization", "")))
        if self.refusals:
            await refuse(context, *self.refusals.popleft())

    async def append(self, record: CloudEvent) -> None:
        """Store a record and tell the open streams."""
        async with self.changed:
            self.log.append(record)
            self.changed.notify_all()

    def publish(self, record: CloudEvent) -> exchange_pb2.PublishResult:
        """The exchange's answer for one record, and its effect."""
        if "dataclassification" not in record.attributes:
            refusal = exchange_pb2.PublishRefusal(
                reason="LABEL_INVALID", message="The labels were refused.", reference="ref-1"
            )
            return exchange_pb2.PublishResult(refused=refusal)
        for position, known in enumerate(self.log):
            if (known.source, known.id) == (record.source, record.id):
                if known != record:
                    refusal = exchange_pb2.PublishRefusal(reason="ID_REUSED", message="Use a new id.")
                    return exchange_pb2.PublishResult(refused=refusal)
                return _accepted(position, duplicate=True)
        self.log.append(record)
        return _accepted(len(self.log) - 1, duplicate=False)


def _accepted(position: int, *, duplicate: bool) -> exchange_pb2.PublishResult:
    acknowledgement = exchange_pb2.PublishAcknowledgement(
        position=b"%08d" % position, duplicate=duplicate, receipt=b"of a call"
    )
    return exchange_pb2.PublishResult(accepted=acknowledgement)


class Exchange(exchange_pb2_grpc.ExchangeServicer):
    """Publish, PublishStream, PreviewPublish and Subscribe over a Script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def Publish(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "Publish")
        return exchange_pb2.PublishResponse(
            results=[self.script.publish(record) for record in request.records]
        )

    async def PublishStream(self, requests: Any, context: Any) -> Any:
        await self.script.enter(context, "PublishStream")
        answered = 0
        async for request in requests:
            if self.script.break_after and self.script.break_after[0] == answered:
                self.script.break_after.pop(0)
                for record in request.records:
                    self.script.publish(record)  # stored, but the answer is lost
                await refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
            results = [self.script.publish(record) for record in request.records]
            answered += 1
            yield exchange_pb2.PublishStreamResponse(results=results)

    async def PreviewPublish(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "PreviewPublish")
        unlabelled = exchange_pb2.PublishRefusal(
            reason="LABEL_INVALID", message="The labels were refused.", reference="ref-1"
        )
        preview = exchange_pb2.RecordPreview(
            parties=[
                exchange_pb2.PartyPreview(agency="ems", purpose="care", effect=exchange_pb2.EFFECT_NOTICE),
                exchange_pb2.PartyPreview(
                    agency="transport",
                    purpose="statistics",
                    effect=exchange_pb2.EFFECT_RELEASE,
                    record=request.records[0],
                    disclosure=exchange_pb2.Disclosure(masked=["criminal"], obligations=["no-copy"]),
                ),
            ],
            unreviewed_paths=["$.new"],
        )
        refused = exchange_pb2.RecordPreview(refusal=unlabelled)
        return exchange_pb2.PreviewPublishResponse(
            previews=[
                preview if "dataclassification" in each.attributes else refused for each in request.records
            ]
        )

    async def Subscribe(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await self.script.enter(context, "Subscribe")
        first = await context.read()
        assert first.WhichOneof("message") == "open"
        await _Stream(self.script, context, first.open).serve()


class _Stream:
    """One subscribe call: a reader of requests beside the loop that delivers."""

    def __init__(self, script: Script, context: Any, opening: exchange_pb2.Open) -> None:
        self.script = script
        self.context = context
        script.opens.append(opening)
        self.connection = len(script.opens)
        self.name = opening.subscription
        self.credit = opening.credit.records
        self.delivered = 0
        self.writing = asyncio.Lock()
        self.ended = False
        self.position = self._start(opening)

    def _start(self, opening: exchange_pb2.Open) -> int:
        if self.name in self.script.positions:
            return self.script.positions[self.name]
        if opening.WhichOneof("from") == "cursor":
            return int(opening.cursor.split(b":")[1])
        return len(self.script.log) if opening.position == exchange_pb2.START_POSITION_LATEST else 0

    def cursor(self) -> bytes:
        return b"%d:%d" % (self.connection, self.position)

    async def _write(self, response: exchange_pb2.SubscribeResponse) -> None:
        async with self.writing:
            await self.context.write(response)

    async def serve(self) -> None:
        opened = exchange_pb2.Opened(
            cursor=self.cursor(), heartbeat_interval_ms=self.script.heartbeat_interval_ms
        )
        await self._write(exchange_pb2.SubscribeResponse(opened=opened))
        reader = asyncio.create_task(self._read())
        pulse = asyncio.create_task(self._pulse())
        try:
            await self._deliver()
        finally:
            reader.cancel()
            pulse.cancel()

    async def _deliver(self) -> None:
        limits = (self.script.break_after.pop(0) if self.script.break_after else None,)
        drain_at = self.script.drain_after.pop(0) if self.script.drain_after else None
        change_at = self.script.change_after.pop(0) if self.script.change_after else None
        while True:
            if change_at is not None and self.delivered >= change_at:
                change_at = None
                told = exchange_pb2.PolicyChange()
                await self._write(exchange_pb2.SubscribeResponse(policy_change=told))
            async with self.script.changed:
                await self.script.changed.wait_for(
                    lambda: self.ended or (self.credit and self.position < len(self.script.log))
                )
            if self.ended and not self.credit:
                return
            if self.credit and self.position < len(self.script.log):
                await self._batch()
            elif self.ended:
                await asyncio.Event().wait()
            if limits[0] is not None and self.delivered >= limits[0]:
                await refuse(self.context, grpc.StatusCode.UNAVAILABLE, "DRAINING")
            if drain_at is not None and self.delivered >= drain_at:
                drain_at = None
                draining = exchange_pb2.Draining(grace_ms=10_000)
                await self._write(exchange_pb2.SubscribeResponse(draining=draining))

    async def _batch(self) -> None:
        take = min(self.script.batch_size, self.credit)
        records = self.script.log[self.position : self.position + take]
        self.position += len(records)
        self.credit -= len(records)
        self.delivered += len(records)
        batch = exchange_pb2.Batch(
            deliveries=[self._delivery(each) for each in records],
            cursor=self.cursor(),
            receipt=b"of batch %d" % self.position,
        )
        await self._write(exchange_pb2.SubscribeResponse(batch=batch))

    def _delivery(self, record: CloudEvent) -> exchange_pb2.Delivery:
        if record.id in self.script.notices:
            notice = exchange_pb2.Notice(id="n-1", type=record.type, owner="o", contact="o@example.org")
            shown = exchange_pb2.Disclosure(effect=exchange_pb2.EFFECT_NOTICE)
            return exchange_pb2.Delivery(notice=notice, disclosure=shown)
        if record.id in self.script.withdrawn:
            names = {"source": record.source, "id": record.id, "type": record.type}
            told = exchange_pb2.Withdrawal(**names, owner="o", contact="o@example.org", reason="wrong")
            return exchange_pb2.Delivery(withdrawal=told)
        shown = exchange_pb2.Disclosure(effect=exchange_pb2.EFFECT_RELEASE, masked=["criminal"])
        return exchange_pb2.Delivery(record=record, disclosure=shown)

    async def _pulse(self) -> None:
        while True:
            await self.script.heartbeats.get()
            heartbeat = exchange_pb2.Heartbeat(cursor=self.cursor() + b":h")
            await self._write(exchange_pb2.SubscribeResponse(heartbeat=heartbeat))

    async def _read(self) -> None:
        while isinstance(message := await self.context.read(), exchange_pb2.SubscribeRequest):
            async with self.script.changed:
                await self._take(message)
                self.script.changed.notify_all()
        async with self.script.changed:
            self.ended = True
            self.script.half_closed += 1
            self.script.changed.notify_all()

    async def _take(self, message: exchange_pb2.SubscribeRequest) -> None:
        kind = message.WhichOneof("message")
        if kind == "credit":
            self.script.credits.append(message.credit)
            self.credit += message.credit.records
        elif kind == "refresh":
            self.script.refreshes.append(message.refresh.token)
        elif kind == "ack":
            connection, position = message.ack.cursor.split(b":")[:2]
            assert int(connection) == self.connection, "a cursor of another connection was acknowledged"
            self.script.acks.append(message.ack.cursor)
            self.script.positions[self.name] = int(position)
            if self.script.confirm_acks:
                acked = exchange_pb2.Acked(cursor=message.ack.cursor)
                await self._write(exchange_pb2.SubscribeResponse(acked=acked))


class Catalog(catalog_pb2_grpc.CatalogServicer):
    """Fixed answers."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def WhoAmI(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "WhoAmI")
        answer = catalog_pb2.WhoAmIResponse(
            agency="ems", subject="p-1", roles=["paramedic"], purposes=["care"]
        )
        answer.attributes["clearance"] = "red"
        answer.server_time.GetCurrentTime()
        answer.expire_time.FromSeconds(answer.server_time.seconds + 600)
        answer.agreements.add(
            owner="highway-patrol",
            topics=["crash-reports"],
            purposes=["care"],
            highest_classification="red",
            grants="records",
        )
        return answer

    async def CanI(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "CanI")
        if request.purpose == "curiosity":
            code = grpc.StatusCode.PERMISSION_DENIED
            await refuse(context, code, "PURPOSE_NOT_PERMITTED", vocabulary="care,statistics")
        return catalog_pb2.CanIResponse(permitted=self.script.permitted, record_types=["t.v1"])

    async def ListTopics(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "ListTopics")
        topic = catalog_pb2.Topic(
            name="crash-reports",
            description="Crashes",
            steward="highway-patrol",
            record_types=["t.v1"],
            may_publish=True,
            subscribe_purposes=["care"],
        )
        return catalog_pb2.ListTopicsResponse(topics=[topic])

    async def ListRecordTypes(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "ListRecordTypes")
        kind = catalog_pb2.RecordType(
            name="t.v1",
            owner="highway-patrol",
            description="A type",
            content_type="application/json",
            fields=[catalog_pb2.FieldMarking(path="$.name", markings=["pii"])],
        )
        return catalog_pb2.ListRecordTypesResponse(record_types=[kind])

    async def ListAgencies(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "ListAgencies")
        agency = catalog_pb2.Agency(name="ems", title="Emergency Medical Services", contact="d@ems.example")
        return catalog_pb2.ListAgenciesResponse(agencies=[agency])

    async def GetVocabulary(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "GetVocabulary")
        return catalog_pb2.GetVocabularyResponse(classifications=["clear", "green"], purposes=["care"])


class Subscriptions(subscriptions_pb2_grpc.SubscriptionsServicer):
    """Subscriptions of one principal, in a dict."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.known: dict[str, subscriptions_pb2.Subscription] = {}

    async def CreateSubscription(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "CreateSubscription")
        made = subscriptions_pb2.Subscription(
            name=request.name, topic=request.topic, purpose=request.purpose, cursor=b"0:0"
        )
        made.create_time.FromSeconds(1_700_000_000)
        made.update_time.FromSeconds(1_700_000_000)
        self.known[request.name] = made
        start = getattr(request, "from")
        if start.WhichOneof("target") == "cursor":
            self.script.positions[request.name] = int(start.cursor.split(b":")[1])
        return subscriptions_pb2.CreateSubscriptionResponse(subscription=made)

    async def GetSubscription(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "GetSubscription")
        return subscriptions_pb2.GetSubscriptionResponse(subscription=await self._get(request, context))

    async def ListSubscriptions(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "ListSubscriptions")
        return subscriptions_pb2.ListSubscriptionsResponse(subscriptions=self.known.values())

    async def DeleteSubscription(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "DeleteSubscription")
        await self._get(request, context)
        del self.known[request.name]
        return subscriptions_pb2.DeleteSubscriptionResponse()

    async def SeekSubscription(self, request: Any, context: Any) -> Any:
        await self.script.enter(context, "SeekSubscription")
        found = await self._get(request, context)
        target = request.to.WhichOneof("target")
        found.cursor = request.to.cursor if target == "cursor" else target.encode()
        if target == "cursor":
            self.script.positions[request.name] = int(request.to.cursor.split(b":")[1])
        return subscriptions_pb2.SeekSubscriptionResponse(subscription=found)

    async def _get(self, request: Any, context: Any) -> subscriptions_pb2.Subscription:
        if request.name not in self.known:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "SUBSCRIPTION_NOT_FOUND")
        return self.known[request.name]


def make_server(
    script: Script, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.aio.Server, int]:
    """A server, not yet started, and its port on loopback; plaintext without credentials."""
    server = grpc.aio.server()
    exchange_pb2_grpc.add_ExchangeServicer_to_server(Exchange(script), server)
    catalog_pb2_grpc.add_CatalogServicer_to_server(Catalog(script), server)
    subscriptions_pb2_grpc.add_SubscriptionsServicer_to_server(Subscriptions(script), server)
    if credentials is None:
        return server, server.add_insecure_port("127.0.0.1:0")
    return server, server.add_secure_port("127.0.0.1:0", credentials)


@asynccontextmanager
async def running_exchange(script: Script) -> AsyncIterator[str]:
    """The endpoint of a plaintext server that runs inside the block."""
    server, port = make_server(script)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=None)
