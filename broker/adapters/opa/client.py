"""The HTTP side: opa-python-client over a Unix socket, with a bound on what is read."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
from opa_client.opa_async import AsyncOpaClient

from broker.adapters.opa.child import Endpoint

_CONNECTIONS = 64


class AnswerTooLarge(Exception):
    """OPA's answer is larger than the limit; it is not read further."""


def _bounded(limit_bytes: int) -> type[aiohttp.ClientResponse]:
    class BoundedResponse(aiohttp.ClientResponse):
        """A response whose document is refused beyond `limit_bytes`."""

        async def json(self, **_: Any) -> Any:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    self.close()
                    raise AnswerTooLarge
            return orjson.loads(body)

    return BoundedResponse


class SocketOpaClient(AsyncOpaClient):  # type: ignore[misc]
    """AsyncOpaClient that asks through a Unix socket instead of TCP.

    A TCP port of a child that has died can be taken by any local process, which then gets the questions and the token;
    a socket in a directory of mode 0700 cannot.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, answer_limit_bytes: int) -> None:
        # No retries inside the client: the caller's deadline and stall loop are the one place for that.
        super().__init__(token=endpoint.token, retries=0, timeout=timeout_s)
        self.endpoint = endpoint
        self._response_class = _bounded(answer_limit_bytes)

    async def _init_session(self) -> None:
        """Called by the library on entry; one session serves all questions to one run of OPA."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self.endpoint.socket), limit=_CONNECTIONS),
            headers={**self.headers, "Accept-Encoding": "identity"},
            json_serialize=lambda value: orjson.dumps(value).decode(),
            response_class=self._response_class,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )

    async def ask(self, items: list[object], *, timed: bool = False) -> Any:
        """OPA's whole answer to `items`, with its provenance, and with its metrics if it is to be timed.

        Raises aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError or AnswerTooLarge.
        """
        parameters = {"provenance": "true"} | ({"metrics": "true"} if timed else {})
        return await self.query_rule({"items": items}, "entente.decision", "decisions", parameters)
