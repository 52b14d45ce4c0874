"""One Subscribe call: serialised writes, acknowledgements and their confirmation."""

from __future__ import annotations

import asyncio

import grpc

from connectors.errors import TRANSPORT, EntenteClientError, Unavailable, from_rpc
from connectors.tokens import TokenSource
from protos.entente.v1 import exchange_pb2 as pb

SubscribeCall = grpc.aio.StreamStreamCall[pb.SubscribeRequest, pb.SubscribeResponse]

_REFRESH_PAUSE_S = 1.0
_SHORTEST_SILENCE_S = 20.0
"""Heartbeats may be frequent and machines busy."""


def silence_s(heartbeat_interval_ms: int) -> float | None:
    """How long a stream may be silent: two heartbeats. A connection may live on in front of an exchange that does not.

    None, without end, for an exchange that does not say how often its heartbeats come.
    """
    return max(2 * heartbeat_interval_ms / 1_000, _SHORTEST_SILENCE_S) if heartbeat_interval_ms else None


class Session:
    """A connection of a stream; the stream outlives it and opens the next one.

    number: counts the stream's connections, so that what an earlier one delivered is not acknowledged on this one.
    token: the last one sent. opened: whether the exchange has accepted the stream. draining: it is about to stop.
    silence_s: after so long without any message the connection counts as dead; None: never.
    last_cursor: the last one received. acked: the last one acknowledged. active_at_s: the event loop's time of the
    last sign of records.
    """

    def __init__(
        self, call: SubscribeCall, number: int, token: str, endpoint: str, *, silence_s: float | None
    ) -> None:
        self.number = number
        self.token = token
        self.opened = False
        self.draining = False
        self.left = False
        self.silence_s = silence_s
        self.last_cursor = b""
        self.acked = b""
        self.active_at_s = 0.0
        self._call = call
        self._endpoint = endpoint
        self._writing = asyncio.Lock()
        self._confirmed = asyncio.Event()
        self._confirmed.set()

    async def send(self, request: pb.SubscribeRequest) -> None:
        """Write one message. A broken call is not reported here: `read` tells why it ended."""
        async with self._writing:
            try:
                await self._call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

    async def read(self) -> pb.SubscribeResponse | None:
        """The next message; None when the exchange or `leave` ended the call. Raises EntenteClientError."""
        try:
            async with asyncio.timeout(self.silence_s):
                message = await self._call.read()
        except TimeoutError:
            text = f"{self._endpoint}: no sign of life for {self.silence_s or 0:g} s"
            raise Unavailable(TRANSPORT, text, code="DEADLINE_EXCEEDED") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._endpoint) from None
        except asyncio.CancelledError:
            # grpc.aio raises this also when `leave` has cancelled the call, not the task.
            task = asyncio.current_task()
            if self.left and (task is None or task.cancelling() == 0):
                return None
            raise
        return message if isinstance(message, pb.SubscribeResponse) else None

    async def ack(self, cursor: bytes) -> None:
        """Acknowledge up to a cursor of this session; repeating the last one sends nothing."""
        if cursor in (b"", self.acked):
            return
        self.acked = cursor
        self._confirmed.clear()
        await self.send(pb.SubscribeRequest(ack=pb.Ack(cursor=cursor)))

    def confirm(self, cursor: bytes) -> None:
        """Note that the exchange has made an acknowledgement durable."""
        if cursor == self.acked:
            self._confirmed.set()

    async def confirmed(self) -> None:
        """Wait until the last acknowledgement is durable."""
        await self._confirmed.wait()

    async def refresh(self, tokens: TokenSource) -> None:
        """Send a new token before the present one ends, for as long as the source has new ones."""
        while (due_s := tokens.seconds_until_due()) is not None:
            await asyncio.sleep(max(due_s, _REFRESH_PAUSE_S))
            try:
                token = await tokens.current()
            except EntenteClientError:
                continue  # the present token may still be good; its end ends the stream
            if token != self.token:
                self.token = token
                await self.send(pb.SubscribeRequest(refresh=pb.Refresh(token=token)))

    async def half_close(self) -> None:
        """Send nothing more; records already granted still arrive."""
        async with self._writing:
            try:
                await self._call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

    def leave(self) -> None:
        """End the call from this side."""
        self.left = True
        self._call.cancel()
