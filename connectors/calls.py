"""Unary calls: the bearer token, a deadline, and repetition of what the exchange could not do just now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from connectors.errors import EntenteClientError, LimitExceeded, Unavailable, from_rpc
from connectors.retry import Retry
from connectors.tokens import TokenSource

Metadata = tuple[tuple[str, str], ...]
_Request = TypeVar("_Request")
_Response = TypeVar("_Response", bound=Message)


class Caller:
    """Makes calls to one endpoint with one token source.

    Every method of the API may be repeated: publishing again is acknowledged again, and the rest set a state.
    """

    def __init__(self, endpoint: str, tokens: TokenSource, *, timeout_s: float, retry: Retry) -> None:
        self.endpoint = endpoint
        self.tokens = tokens
        self.retry = retry
        self.timeout_s = timeout_s

    async def metadata(self) -> Metadata:
        """The call's metadata. Raises EntenteClientError if there is no token."""
        return (("authorization", f"Bearer {await self.tokens.current()}"),)

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        publishing: bool = False,
    ) -> _Response:
        """Call, and again after a pause while the exchange is unavailable. Raises EntenteClientError."""
        may_repeat = self.may_publish_again if publishing else self.may_repeat
        for pause_s in self.retry.pauses_s():
            try:
                return await self._once(method, request)
            except EntenteClientError as error:
                if not may_repeat(error):
                    raise
            await asyncio.sleep(pause_s)
        return await self._once(method, request)

    @contextmanager
    def reading(self, call: grpc.aio.Call) -> Iterator[None]:
        """Around all that is read from a streaming call, which ends with it. Raises EntenteClientError."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.endpoint) from None
        finally:
            call.cancel()

    def may_repeat(self, error: EntenteClientError) -> bool:
        """Whether to try again; an expired token is discarded where another one can be had."""
        if error.reason == "TOKEN_EXPIRED" and self.tokens.renewable:
            self.tokens.discard()
            return True
        # Some limits are no rates: waiting does not help who holds too many streams or asks for too much credit.
        return isinstance(error, Unavailable)

    def may_publish_again(self, error: EntenteClientError) -> bool:
        """As `may_repeat`, and over the limit of records a second too: publishing slows down to what is taken."""
        return isinstance(error, LimitExceeded) or self.may_repeat(error)

    async def _once(
        self, method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request
    ) -> _Response:
        try:
            return await method(request, metadata=await self.metadata(), timeout=self.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.endpoint) from None
