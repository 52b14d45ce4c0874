"""Errors as google.rpc.Status with exactly one google.rpc.ErrorInfo."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from broker.errors import DOMAIN, EntenteError

_DETAILS = "grpc-status-details-bin"


def rich_status(error: EntenteError, reference: str) -> status_pb2.Status:
    """The status that a client receives (AIP-193)."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.name, domain=DOMAIN, metadata={"reference": reference, **error.metadata}
    )
    detail = any_pb2.Any()
    detail.Pack(info)
    code = code_pb2.Code.Value(error.reason.code)
    return status_pb2.Status(code=code, message=str(error), details=[detail])


async def abort(context: grpc.aio.ServicerContext[bytes, bytes], error: EntenteError, reference: str) -> None:
    """End the call with the error; raises grpc.aio.AbortError."""
    status = rich_status(error, reference)
    code = grpc.StatusCode[error.reason.code]
    await context.abort(code, status.message, ((_DETAILS, status.SerializeToString()),))
