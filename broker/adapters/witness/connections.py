"""Connections under limits: so many at once, so many of one address, and so long for each request.

aiohttp's own server sets no bound to the number of connections, nor to how slowly a request may come in.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

log = logging.getLogger(__name__)

_BACKLOG = 128
_PAUSE_S = 0.1
"""After a failure to accept, such as too few file descriptors."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """total: those beyond wait in the system's queue; per_address: those beyond are closed at once.

    handshake_s: for TLS. request_s: for each request from its first byte to its answer, and until the first one begins.
    idle_s: between requests.
    """

    total: int = 128
    per_address: int = 32
    handshake_s: float = 10.0
    request_s: float = 10.0
    idle_s: float = 75.0


class Connection(asyncio.Protocol):
    """Passes everything on to another protocol, and cuts the connection off when its time is up."""

    def __init__(self, inner: asyncio.Protocol, limits: ConnectionLimits, gone: Callable[[], object]) -> None:
        """gone: called once, when the connection has ended or was never made."""
        self.closed = asyncio.Event()
        self.gone = gone
        self._inner = inner
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._in_request = False

    def answered(self) -> None:
        """The request's answer is ready: the time until the next one begins."""
        self._in_request = False
        self._arm(self._limits.idle_s)

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._arm(self._limits.request_s)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self._in_request:
            self._in_request = True
            self._arm(self._limits.request_s)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self.closed.set()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.resume_writing()

    def _arm(self, after_s: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._deadline = asyncio.get_running_loop().call_later(after_s, self.abort)


class Listener:
    """Accepts connections on one address until it is closed; belongs to the event loop."""

    def __init__(
        self, make: Callable[[], Connection], tls: ssl.SSLContext | None, limits: ConnectionLimits
    ) -> None:
        """make: a new connection's protocol. tls: None for connections in the clear."""
        self._make = make
        self._tls = tls
        self._limits = limits
        self._free = asyncio.Semaphore(limits.total)
        self._of_address: Counter[str] = Counter()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def listen(self, host: str, port: int) -> int:
        """Begin to accept; returns the port, which the system chooses for 0. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._socket))
        return int(self._socket.getsockname()[1])

    async def stop(self) -> None:
        """Accept no more; what is connected stays."""
        if self._accepting is not None and self._socket is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._socket.close()

    async def close(self) -> None:
        """Stop, and cut off what is still connected."""
        await self.stop()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(set(self._serving))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                self._free.release()
                log.warning("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE_S)
                continue
            except BaseException:
                self._free.release()
                raise
            task = asyncio.create_task(self._serve(accepted, str(address[0])))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, accepted: socket.socket, address: str) -> None:
        """From the handshake to the end of one connection."""
        if self._of_address[address] >= self._limits.per_address:
            accepted.close()
            self._free.release()
            return
        self._of_address[address] += 1
        connection = self._make()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake_s if self._tls is not None else None,
            )
            await connection.closed.wait()
        except OSError as error:  # a handshake that failed or took too long: TLS errors are OSErrors, too
            log.debug("a connection failed: %s", type(error).__name__)
        finally:
            connection.abort()
            connection.gone()
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
            self._free.release()
