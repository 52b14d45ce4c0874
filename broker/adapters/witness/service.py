"""The co-signing service: the server's side of C2SP tlog-witness over HTTP, with nothing but add-checkpoint.

Requests need no authentication but the log's own signature on the checkpoint, so anybody may send anything: bodies,
connections and times are bounded, and each error is one line without content.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from broker.adapters.witness.connections import Connection, ConnectionLimits, Listener
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.cosigning import OriginUnknown, SignatureUnknown
from broker.core.witness.judge import RootConflict
from broker.core.witness.request import MAX_REQUEST_BYTES, RequestInvalid
from broker.errors import StorageUnavailable, fault_place
from broker.ports.witness import WitnessConflict

log = logging.getLogger(__name__)

PATH = "/add-checkpoint"
_SIZE_TYPE = "text/x.tlog.size"
_THREADS = 4
_LINGERING_S = 2.0
_GRACE_S = 5.0


class WitnessService:
    """Serves one cosigning witness; belongs to the event loop."""

    def __init__(
        self,
        add: Callable[[bytes], bytes],
        tls: ssl.SSLContext | None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """add: CosigningWitness.add, or what raises the same; called in threads."""
        self._add = add
        self._limits = limits or ConnectionLimits()
        self._threads = ThreadPoolExecutor(_THREADS, "witness")
        self._connections: dict[object, Connection] = {}
        self._listener = Listener(self._connection, tls, self._limits)
        self._server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self._limits.idle_s,
            lingering_time=_LINGERING_S,
        )

    def listen(self, host: str, port: int) -> int:
        """Begin to serve; returns the port. Raises OSError."""
        return self._listener.listen(host, port)

    async def close(self) -> None:
        """Answer what has been asked, then end everything."""
        await self._listener.stop()
        self._server.pre_shutdown()
        await self._server.shutdown(_GRACE_S)
        await self._listener.close()
        self._threads.shutdown(wait=True)

    def _connection(self) -> Connection:
        inner = self._server()
        connection = Connection(inner, self._limits, lambda: self._connections.pop(inner, None))
        self._connections[inner] = connection
        return connection

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        try:
            response = await self._answer(request)
            response.headers["Server"] = "entente-witness"  # and not the library's version
            return response
        finally:
            connection = self._connections.get(request.protocol)
            if connection is not None:
                connection.answered()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """1. What is asked. 2. The body, within its bound. 3. The witness's answer."""
        if request.path != PATH:
            return _refused(404, f"there is nothing here but {PATH}")
        if request.method != "POST":
            return _refused(405, "add-checkpoint takes POST", headers={"Allow": "POST"})
        body = await _read(request)
        if body is None:
            response = _refused(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")
            response.force_close()
            return response
        try:
            line = await asyncio.get_running_loop().run_in_executor(self._threads, self._add, body)
        except RequestInvalid as error:
            return _refused(400, str(error))
        except SignatureUnknown:
            return _refused(
                403, "the checkpoint is not signed by a key that this witness trusts for its origin"
            )
        except OriginUnknown:
            return _refused(404, "this witness does not know a log of this origin")
        except WitnessConflict as conflict:
            return _conflict(conflict.held_size)
        except RootConflict as conflict:
            return _conflict(conflict.size) if conflict.stale else _refused(409, str(conflict))
        except ProofInvalid as error:
            return _refused(422, str(error))
        except StorageUnavailable as error:
            log.error("a checkpoint could not be kept: %s", error)
            return _refused(503, "this witness cannot store checkpoints now; try again later")
        except Exception as error:  # noqa: BLE001 - the last resort: a line instead of a traceback
            log.error("a request failed: %s", fault_place(error))
            return _refused(500, "this witness failed; tell its operator")
        return web.Response(body=line, content_type="text/plain", charset="utf-8")


async def _read(request: web.BaseRequest) -> bytes | None:
    """The body, or None for one that is too large. What is beyond the bound is not kept."""
    if (request.content_length or 0) > MAX_REQUEST_BYTES:
        return None
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MAX_REQUEST_BYTES:
            return None
    return bytes(body)


def _conflict(held_size: int) -> web.Response:
    return web.Response(status=409, body=f"{held_size}\n".encode(), content_type=_SIZE_TYPE)


def _refused(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{message}\n", headers=headers)
