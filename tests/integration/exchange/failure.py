"""Errors as a client sees them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from broker.core.reference import time_of


class Failure(Exception):
    """A call's end other than OK: its code, text, and the one ErrorInfo of its details."""

    def __init__(
        self, code: grpc.StatusCode, message: str, info: error_details_pb2.ErrorInfo | None, details: int
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.info = info
        self.details = details

    @property
    def reason(self) -> str:
        """The catalogue's reason; "" if the error was not made by the exchange."""
        return "" if self.info is None else self.info.reason

    def check_shape(self) -> None:
        """What holds of every error of the exchange."""
        assert self.info is not None, f"no ErrorInfo: {self}"
        assert self.details == 1
        assert self.info.domain == "entente"
        assert time_of(self.info.metadata["reference"]) is not None
        assert self.message.isprintable()
        assert len(self.message) < 1_000


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """The error's parts."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
            assert status.message == error.details()
            assert status.code == error.code().value[0]
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            return Failure(error.code(), status.message, info, len(status.details))
    return Failure(error.code(), error.details() or "", None, 0)


async def failure_in(call: Awaitable[Any]) -> Failure:
    """How a unary call fails."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("the call succeeded")
