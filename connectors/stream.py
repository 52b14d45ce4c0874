"""A subscription as an async iterator: credit, acknowledgements, token refresh, and reconnects without loss."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from connectors.calls import Caller
from connectors.closing import Closing
from connectors.credit import CreditWindow
from connectors.delivery import Delivery, StreamOptions, change_of_policy, deliveries, open_message
from connectors.errors import TRANSPORT, EntenteClientError, Unavailable
from connectors.receipts import TopicReceipts
from connectors.session import Session, silence_s
from protos.entente.v1 import exchange_pb2 as pb

if TYPE_CHECKING:
    # Only the stub file knows this name.
    from protos.entente.v1.exchange_pb2_grpc import ExchangeAsyncStub

_CLOSE_TIMEOUT_S = 5.0


class RecordStream(Closing):
    """Deliveries in order, at least once.

    Use as `async with`, then `async for`. With a named subscription, `ack` each delivery when it is dealt with; a
    reconnect resumes from the last acknowledged one. Without a name it resumes after the last one handed out.
    """

    def __init__(
        self,
        stub: ExchangeAsyncStub,
        caller: Caller,
        options: StreamOptions,
        receipts: TopicReceipts | None = None,
    ) -> None:
        self._stub = stub
        self._caller = caller
        self._options = options
        self._receipts = receipts
        self._buffer: deque[Delivery | pb.PolicyChange | bytes] = deque()  # bytes: a heartbeat's cursor
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._runner: asyncio.Task[None] | None = None
        self._error: EntenteClientError | None = None
        self._finished = False
        self._progressed = False
        self._sessions = 0
        self._handed_cursor = b""
        self._credit = CreditWindow(options)
        self._cursor = b""
        self.caught_up = False
        """Whether the exchange has said, after all that was handed out, that nothing waits; an open stream's only."""

    @property
    def cursor(self) -> bytes:
        """Where to resume after the last delivery handed out; empty before the stream was first open."""
        return self._cursor

    async def __aenter__(self) -> Self:
        if self._receipts is not None:
            await self._receipts.open()
        self._runner = asyncio.create_task(self._run())
        return self

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        """The next delivery. Raises EntenteClientError when the stream ended and may not or could not be resumed.

        Ends when the stream is closed meanwhile.
        """
        runner = self._runner
        if runner is None:
            raise RuntimeError("a stream is read inside `async with`")
        await self._grant_again()
        while not self._credit.at_limit:
            if self._buffer:
                item = self._buffer.popleft()
                if isinstance(item, Delivery):
                    return self._hand_out(item)
                if isinstance(item, pb.PolicyChange):
                    return change_of_policy(item, self._handed_cursor, self._sessions)
                await self._pass_heartbeat(item)
                continue
            if self._error is not None:
                raise self._error
            if self._runner is None:
                break
            if runner.done():
                runner.result()  # a fault of the client's own, rather than waiting for ever
            if self._finished or not await self._wait():
                break
        raise StopAsyncIteration

    async def several(self, most: int) -> list[Delivery]:
        """The next delivery and what has come behind it, `most` of them at most; none at the end. Raises as `__anext__`."""
        first, buffer = await anext(self, None), self._buffer
        found = [] if first is None else [first]
        while (
            found
            and buffer
            and len(found) < most
            and isinstance(buffer[0], Delivery)
            and not self._credit.at_limit
        ):
            found.append(self._hand_out(buffer[0]))
            buffer.popleft()
        return found

    async def ack(self, delivery: Delivery) -> None:
        """Say that everything up to and including this delivery is dealt with.

        Takes effect on the exchange with the last delivery of a batch. Without a named subscription, or for a
        delivery from before a reconnect (it comes again), nothing is sent.
        """
        session = self._session
        if self._options.subscription and session is not None and session.number == delivery.session:
            await session.ack(delivery.cursor)

    async def close(self) -> None:
        """Wait until the last acknowledgement is durable, then end the stream; idempotent.

        Raises EntenteClientError if it is not known to be durable: those records will be delivered again.
        """
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        session = self._session
        try:
            if session is not None:
                await self._drain(session, runner)
        finally:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
            self._changed.set()
            if self._receipts is not None:
                self._receipts.close()

    async def _drain(self, session: Session, runner: asyncio.Task[None]) -> None:
        confirmed = asyncio.create_task(session.confirmed())
        await asyncio.wait({confirmed, runner}, timeout=_CLOSE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not confirmed.done():
            confirmed.cancel()
            unknown = Unavailable(TRANSPORT, "the last acknowledgement was not confirmed", code="UNAVAILABLE")
            raise self._error or unknown
        self._finished = True
        await session.half_close()
        if self._credit.outstanding == 0:
            await asyncio.wait({runner}, timeout=_CLOSE_TIMEOUT_S)

    # -- what the consumer's side does ---------------------------------------------------------------------------

    def _hand_out(self, delivery: Delivery) -> Delivery:
        self._cursor = self._handed_cursor = delivery.cursor
        self.caught_up = False
        self._credit.use(delivery.size_bytes)
        return delivery

    async def _grant_again(self) -> None:
        """Give back the credit of what was handed out."""
        session = self._session
        if session is not None and (credit := self._credit.again()) is not None:
            await session.send(pb.SubscribeRequest(credit=credit))

    async def _pass_heartbeat(self, cursor: bytes) -> None:
        """Move past records that were not for this caller, unless a delivery still awaits its acknowledgement."""
        self._cursor = cursor
        self.caught_up = True
        session = self._session
        if not self._options.subscription or session is None:
            return
        if self._handed_cursor == session.acked:
            self._handed_cursor = cursor
            await session.ack(cursor)

    async def _wait(self) -> bool:
        """Wait for a change; False when the stream has been idle for too long."""
        session = self._session
        if session is not None and session.draining:
            await self._leave(session)
        self._changed.clear()
        timeout_s = self._idle_left_s()
        if timeout_s is not None and timeout_s <= 0:
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        return True

    async def _leave(self, session: Session) -> None:
        """Make room on an instance that is about to stop, once it has the last acknowledgement."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(session.confirmed(), _CLOSE_TIMEOUT_S)
        session.leave()

    def _idle_left_s(self) -> float | None:
        """None: wait without end. An outage is not idleness, so only an open stream counts."""
        session = self._session
        if self._options.idle_timeout_s is None or session is None or not session.opened:
            return None
        return session.active_at_s + self._options.idle_timeout_s - asyncio.get_running_loop().time()

    # -- what the background task does ----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, read, and connect again, until the stream is closed or may not be resumed."""
        pauses_s = self._options.reconnect.pauses_s()
        while True:
            ended = await self._one_session()
            if self._finished:
                break
            self._buffer.clear()  # the next session delivers these again
            if self._progressed:
                self._progressed, pauses_s = False, self._options.reconnect.pauses_s()
            pause_s = next(pauses_s, None) if ended is None or self._caller.may_repeat(ended) else None
            if pause_s is None:
                lost = Unavailable(TRANSPORT, "the exchange keeps ending the stream", code="UNAVAILABLE")
                self._error = ended or lost
                break
            await asyncio.sleep(pause_s)
        self._changed.set()

    async def _one_session(self) -> EntenteClientError | None:
        """Serve one connection to its end; the error that ended it, if any."""
        session: Session | None = None
        refresher: asyncio.Task[None] | None = None
        try:
            session = self._session = await self._connect()
            refresher = asyncio.create_task(session.refresh(self._caller.tokens))
            while (message := await session.read()) is not None:
                self._receive(session, message)
        except EntenteClientError as error:
            return error
        finally:
            self._session = None
            if refresher is not None:
                refresher.cancel()
            if session is not None:
                session.leave()
            self._changed.set()
        return None

    async def _connect(self) -> Session:
        token = await self._caller.tokens.current()
        call = self._stub.Subscribe(metadata=(("authorization", f"Bearer {token}"),))
        self._sessions += 1
        session = Session(
            call, self._sessions, token, self._caller.endpoint, silence_s=self._caller.timeout_s
        )
        self._handed_cursor = b""
        self.caught_up = False
        credit = self._credit.begin()
        await session.send(pb.SubscribeRequest(open=open_message(self._options, self._cursor, credit)))
        return session

    def _receive(self, session: Session, message: pb.SubscribeResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "opened":
            session.opened = True
            session.silence_s = silence_s(message.opened.heartbeat_interval_ms)
            session.last_cursor = session.acked = self._handed_cursor = message.opened.cursor
            self._cursor = self._cursor or message.opened.cursor
            session.active_at_s = asyncio.get_running_loop().time()
        elif kind == "batch":
            self._progressed = True
            session.active_at_s = asyncio.get_running_loop().time()
            if self._receipts is not None:
                self._receipts.add_batch(message.batch)
            before, session.last_cursor = session.last_cursor, message.batch.cursor
            self._buffer.extend(deliveries(message.batch, before, session.number))
        elif kind == "heartbeat":
            self._progressed = True
            self._note_heartbeat(session, message.heartbeat.cursor)
        elif kind == "policy_change":
            self._buffer.append(message.policy_change)
        elif kind == "draining":
            session.draining = True
        elif kind == "acked":
            session.confirm(message.acked.cursor)
        self._changed.set()

    def _note_heartbeat(self, session: Session, cursor: bytes) -> None:
        session.last_cursor = cursor
        if self._buffer and isinstance(self._buffer[-1], bytes):
            self._buffer.pop()  # a slow consumer needs only the newest
        self._buffer.append(cursor)
