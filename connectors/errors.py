"""The one exception of the client: what the exchange answered, or why it could not be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_STATUS_KEY = "grpc-status-details-bin"
TRANSPORT = "TRANSPORT"
"""`reason` of an error that no exchange sent: connecting, TLS, a broken connection, a deadline."""


class EntenteClientError(Exception):
    """A refused or failed call.

    reason: the catalogue's reason (docs/errors.md), or TRANSPORT when no exchange answered.
    message: one line: what is wrong, where, and what to do.
    reference: what an administrator of the exchange can look up; empty for TRANSPORT.
    code: the canonical gRPC status code's name, for example NOT_FOUND.
    metadata: further entries of the error's ErrorInfo, for example `vocabulary`.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        reference: str = "",
        code: str = "UNKNOWN",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}" + (f" (reference {reference})" if reference else ""))
        self.reason = reason
        self.message = message
        self.reference = reference
        self.code = code
        self.metadata = dict(metadata or {})

    @property
    def retryable(self) -> bool:
        """Whether repeating the same call later can succeed without any change on the caller's side."""
        # A dying peer, a proxy, or a write that met the end of its stream shows as INTERNAL or UNKNOWN.
        broken = self.reason == TRANSPORT and self.code in {"INTERNAL", "UNKNOWN"}
        return broken or self.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def from_rpc(error: grpc.aio.AioRpcError, endpoint: str) -> EntenteClientError:
    """Translate gRPC's error. `endpoint` is named when nothing but the transport can be blamed."""
    code = error.code().name
    info = _error_info(error.trailing_metadata() or ())
    if info is None:
        details = " ".join((error.details() or "no details").split())
        return EntenteClientError(TRANSPORT, f"{endpoint}: {details}", code=code)
    metadata = dict(info.metadata)
    reference = metadata.pop("reference", "")
    return EntenteClientError(info.reason, error.details() or info.reason, reference, code, metadata)


def _error_info(trailers: Iterable[tuple[str, str | bytes]]) -> error_details_pb2.ErrorInfo | None:
    for key, value in trailers:
        if key != _STATUS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            return None
        info = error_details_pb2.ErrorInfo()
        if any(detail.Unpack(info) for detail in status.details):
            return info
    return None
