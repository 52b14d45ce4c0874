"""One call on its way through the interceptors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc

from broker.errors import EntenteError, Reason
from broker.model.principal import Principal


@dataclass(slots=True)
class Call:
    """A call's context.

    reference: in every error, so that an administrator can find the call in the ledger; see core.reference.
    response: what a unary method answers. accounted: the use case has written its own ledger entry.
    """

    method: str
    context: grpc.aio.ServicerContext[bytes, bytes]
    reference: str
    request: bytes = b""
    response: bytes = b""
    principal: Principal | None = None
    accounted: bool = False

    @property
    def caller(self) -> Principal:
        """The authenticated principal; only behind the identity interceptor."""
        if self.principal is None:
            raise EntenteError(Reason.INTERNAL)
        return self.principal

    @property
    def peer(self) -> str:
        """The peer's host without its port, for example "ipv4:127.0.0.1"."""
        return self.context.peer().rpartition(":")[0]

    async def messages(self) -> AsyncIterator[bytes]:
        """The client's messages of a streaming method, until it half-closes."""
        while (message := await self.read()) is not None:
            yield message

    async def read(self) -> bytes | None:
        """The client's next message of a streaming method; None once it has half-closed."""
        message: object = await self.context.read()
        return message if isinstance(message, bytes) else None

    async def write(self, message: bytes) -> None:
        """Send one message of a streaming method; returns once the transport has taken it."""
        await self.context.write(message)


Method = Callable[[Call], Awaitable[None]]
"""What serves a call: a unary one reads `request` and sets `response`, a streaming one reads and writes."""

Interceptor = Callable[[Call, Method], Awaitable[None]]
"""Does its part and calls the method, or raises EntenteError instead."""
