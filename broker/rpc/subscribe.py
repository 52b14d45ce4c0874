"""Exchange.Subscribe: one task writes, one reads, one beats, one acknowledges."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from broker.core.claims import OpenRequest
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.session import Outgoing, Session
from broker.core.places import Start, StartAt
from broker.core.streams import Streams
from broker.errors import EntenteError, Reason, Told, fault_place
from broker.rpc.call import Call
from broker.rpc.interceptors import IdentityInterceptor
from broker.rpc.quotas import Quotas
from broker.rpc.times import milliseconds
from protos.entente.v1 import exchange_pb2
from protos.entente.v1.exchange_pb2 import SubscribeRequest, SubscribeResponse

log = logging.getLogger(__name__)

DEFAULT_CREDIT_BYTES = 4 << 20
SETTLE_S = 5.0
"""How long the end of a stream, and of the broker, waits for its entry."""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Seconds: between heartbeats, until a write that the client does not take ends the stream, and for draining."""

    heartbeat_s: float = 20.0
    slow_consumer_s: float = 60.0
    drain_s: float = 10.0


@dataclass(slots=True, eq=False)
class _Stream:
    """An open stream: its call, its session, and the newest acknowledgement that is not yet stored."""

    call: Call
    session: Session
    pending_ack: bytes | None = None
    acked: asyncio.Event = field(default_factory=asyncio.Event)


class SubscribeServicer:
    """Serves Subscribe and drains its streams."""

    def __init__(
        self,
        *,
        streams: Streams,
        fanout: FanOut,
        identity: IdentityInterceptor,
        quotas: Quotas,
        times: StreamTimes,
        message_bytes: int,
        checkpoint: Callable[[], bytes],
    ) -> None:
        """checkpoint: gives the newest signed checkpoint of the ledger, b"" if there is none."""
        self._streams = streams
        self._fanout = fanout
        self._identity = identity
        self._quotas = quotas
        self._times = times
        self._message_bytes = message_bytes
        self._checkpoint = checkpoint
        self._open: set[_Stream] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def subscribe(self, call: Call) -> None:
        """Exchange.Subscribe."""
        if self._draining:
            raise EntenteError(Reason.DRAINING)
        with self._quotas.stream(call.caller.agency):
            opening = await self._first(call)
            session = await self._opened(call, _open_request(opening))
            call.accounted = True
            stream = _Stream(call, session)
            self._open.add(stream)
            self._idle.clear()
            cause, why = "cancelled", tuple[Told, ...]()
            try:
                if self._draining:  # since the call began
                    raise EntenteError(Reason.DRAINING)
                await self._run(stream, opening)
                cause = "completed"
            except EntenteError as error:
                cause, why = error.reason.name, error.decisions
                raise
            finally:
                self._leave(stream)
                await self._close(session, cause, why)

    async def drain(self) -> None:
        """Tell every stream, let clients leave, then end those that remain."""
        self._draining = True
        notice = exchange_pb2.Draining(grace_ms=int(self._times.drain_s * 1000))
        for stream in self._open:
            stream.session.put(_outgoing(SubscribeResponse(draining=notice)))
        try:
            async with asyncio.timeout(self._times.drain_s):
                await self._idle.wait()
        except TimeoutError:
            for stream in self._open:
                stream.session.fail(EntenteError(Reason.DRAINING))

    async def settle(self) -> None:
        """Wait until the ends of all streams are accounted for, or the ledger does not answer for long."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=SETTLE_S)
        await self._streams.settle()

    async def _opened(self, call: Call, request: OpenRequest) -> Session:
        """Open the session; if the call is cancelled meanwhile, what is opened then is closed again."""
        opening = asyncio.ensure_future(self._streams.open(call.caller, request))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._in_the_end(self._abandon(opening))
            raise

    async def _abandon(self, opening: asyncio.Future[Session]) -> None:
        with contextlib.suppress(EntenteError):
            await self._streams.close(await opening, "cancelled")

    def _leave(self, stream: _Stream) -> None:
        self._open.discard(stream)
        if not self._open:
            self._idle.set()

    async def _first(self, call: Call) -> exchange_pb2.Open:
        message = await call.read()
        if message is None:
            raise EntenteError(Reason.STREAM_PROTOCOL, "it ended before 'open'")
        request = self._parse(message)
        if request.WhichOneof("message") != "open":
            raise EntenteError(Reason.STREAM_PROTOCOL, "the first is not 'open'")
        return request.open

    async def _run(self, stream: _Stream, opening: exchange_pb2.Open) -> None:
        session = stream.session
        opened = exchange_pb2.Opened(
            cursor=session.cursor(), heartbeat_interval_ms=int(self._times.heartbeat_s * 1000)
        )
        session.put(_outgoing(SubscribeResponse(opened=opened)))
        if opening.HasField("credit"):
            self._grant(stream, opening.credit)
        helpers = [self._read(stream), self._beat(stream), self._acknowledge(stream)]
        async with _background(helpers, session):
            await self._write(stream)
        if session.failure is not None:
            raise session.failure

    async def _write(self, stream: _Stream) -> None:
        """Until the session has nothing more to send, or fails."""
        while (outgoing := await stream.session.next()) is not None:
            try:
                async with asyncio.timeout(self._times.slow_consumer_s):
                    await stream.call.write(outgoing.message)
            except TimeoutError:
                stream.session.fail(
                    EntenteError(Reason.CONSUMER_TOO_SLOW, f"{self._times.slow_consumer_s:g}")
                )
                return
            self._fanout.written(stream.session, outgoing)

    async def _read(self, stream: _Stream) -> None:
        async for message in stream.call.messages():
            await self._quotas.pace(stream.session.principal.agency)
            request = self._parse(message)
            match request.WhichOneof("message"):
                case "credit":
                    self._grant(stream, request.credit)
                case "ack":
                    # Checked at once, stored soon: a later cursor covers the earlier ones.
                    stream.session.open_cursor(request.ack.cursor)
                    stream.pending_ack = request.ack.cursor
                    stream.session.settle()
                    stream.acked.set()
                case "refresh":
                    await self._refresh(stream, request.refresh.token)
                case "open":
                    raise EntenteError(Reason.STREAM_PROTOCOL, "'open' came twice")
                case _:
                    raise EntenteError(Reason.STREAM_PROTOCOL, "one holds no known field")
        stream.session.close_credit()

    async def _beat(self, stream: _Stream) -> None:
        """On a fixed timer, whether or not there were records (rule 6)."""
        while True:
            await asyncio.sleep(self._times.heartbeat_s)
            heartbeat = exchange_pb2.Heartbeat(cursor=stream.session.cursor(), checkpoint=self._checkpoint())
            stream.session.put(_outgoing(SubscribeResponse(heartbeat=heartbeat)))

    async def _acknowledge(self, stream: _Stream) -> None:
        while True:
            await stream.acked.wait()
            stream.acked.clear()
            sealed, stream.pending_ack = stream.pending_ack, None
            if sealed is not None:
                await self._streams.acknowledge(stream.session, sealed)
                acked = SubscribeResponse(acked=exchange_pb2.Acked(cursor=sealed))
                stream.session.answer(_outgoing(acked), settled=stream.pending_ack is None)

    async def _refresh(self, stream: _Stream, token: str) -> None:
        principal = await self._identity.principal(stream.call, token)
        await self._streams.refresh(stream.session, principal)
        stream.call.principal = principal

    def _grant(self, stream: _Stream, credit: exchange_pb2.Credit) -> None:
        size_bytes = credit.bytes or (DEFAULT_CREDIT_BYTES if credit.records else 0)
        stream.session.grant(credit.records, size_bytes)
        self._fanout.wake(stream.session)

    def _parse(self, message: bytes) -> SubscribeRequest:
        if len(message) > self._message_bytes:
            raise EntenteError(Reason.MESSAGE_TOO_LARGE, str(self._message_bytes))
        return SubscribeRequest.FromString(message)

    async def _close(self, session: Session, cause: str, why: Sequence[Told]) -> None:
        """Account for the end even if the call is cancelled; a stalled ledger does not hold up the answer for long."""
        await asyncio.wait([self._in_the_end(self._streams.close(session, cause, why))], timeout=SETTLE_S)

    def _in_the_end(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Work that outlives its call, and that the end of the broker waits for."""
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a stream's end is not in the ledger: error=%s", fault_place(error))


class _background:
    """Runs coroutines beside a block; one that raises EntenteError or fails ends the session with that error."""

    def __init__(self, coroutines: list[Coroutine[None, None, None]], session: Session) -> None:
        self._tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        self._session = session

    async def __aenter__(self) -> None:
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._session.fail(_as_entente(error))


def _as_entente(error: BaseException) -> EntenteError:
    match error:
        case EntenteError():
            return error
        case DecodeError():
            return EntenteError(Reason.REQUEST_INVALID, "it is not the method's protobuf message")
    log.error("a stream's task failed: error=%s", fault_place(error))
    return EntenteError(Reason.INTERNAL)


def _outgoing(response: SubscribeResponse) -> Outgoing:
    return Outgoing(response.SerializeToString())


def _open_request(opening: exchange_pb2.Open) -> OpenRequest:
    return OpenRequest(
        topic=opening.topic,
        purpose=opening.purpose,
        subscription=opening.subscription,
        start=_start(opening),
        earliest_on_expired=opening.on_expired == exchange_pb2.ON_EXPIRED_EARLIEST,
    )


def _start(opening: exchange_pb2.Open) -> StartAt:
    match opening.WhichOneof("from"):
        case "time":
            return StartAt(time_ms=milliseconds(opening.time))
        case "cursor":
            return StartAt(cursor=opening.cursor)
        case "position" if opening.position == exchange_pb2.START_POSITION_LATEST:
            return StartAt(place=Start.LATEST)
        case _:
            return StartAt(place=Start.EARLIEST)
