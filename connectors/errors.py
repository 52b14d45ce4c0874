"""The exceptions of the client, by what a caller does next: what the exchange answered, or why it could not be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_STATUS_KEY = "grpc-status-details-bin"
TRANSPORT = "TRANSPORT"
"""`reason` of an error that no exchange sent: connecting, TLS, a broken connection, a deadline."""

# A dying peer, a proxy, or a write that met the end of its stream shows as INTERNAL or UNKNOWN.
_BROKEN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"})


class EntenteClientError(Exception):
    """A refused or failed call; mostly one of the subclasses below, by the reason.

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
        return isinstance(self, Unavailable | LimitExceeded)


class Unavailable(EntenteClientError):
    """The exchange cannot be reached or cannot do it now. The client has repeated the call already: try again later."""


class LimitExceeded(EntenteClientError):
    """Too much at once: try again later, or with less."""


class ConsumerTooSlow(EntenteClientError):
    """The stream was not read for too long: read faster or take less at once, and open it again."""


class Unauthenticated(EntenteClientError):
    """The token is missing, has ended, or was not accepted: get another one."""


class PermissionDenied(EntenteClientError):
    """The rulebook or the token does not permit it: do not repeat it; ask the topic's owner or your issuer."""


class Suspended(PermissionDenied):
    """An administrator has suspended it: ask your agency's, and try again in some minutes."""


class NotFound(EntenteClientError):
    """What was named may not be used by this caller, or it might not exist: mend the name, or ask its owner."""


class RecordRefused(EntenteClientError):
    """The record can never be stored as it is: mend it."""


class IdReused(RecordRefused):
    """Another record has this source and id: give each version of a thing an id of its own."""


class RequestRefused(EntenteClientError):
    """The call can never be answered as it is: mend the program, or what it was given."""


class CursorInvalid(EntenteClientError):
    """The cursor is not one of this caller's for the topic, or the topic was made anew: choose where to begin."""


class PositionExpired(EntenteClientError):
    """Records that were not seen are gone: find out what that means, then choose where to begin."""


class TakenOver(EntenteClientError):
    """Another stream has opened this subscription: stop, it is being served."""


class StateConflict(EntenteClientError):
    """It is not as the call supposes: look at how it stands now, and begin anew."""


class LedgerInconsistent(EntenteClientError):
    """The ledger is not the continuation of what was read before: an alarm; tell the auditors."""


class ExchangeFailed(EntenteClientError):
    """A fault of the exchange: give its operator the reference."""


_BY_REASON: dict[type[EntenteClientError], str] = {
    Unavailable: "ISSUER_UNAVAILABLE DRAINING AUDIT_UNAVAILABLE AGREEMENT_UNAVAILABLE POLICY_UNAVAILABLE"
    " STORAGE_UNAVAILABLE STORAGE_FULL LEDGER_UNAVAILABLE",
    LimitExceeded: "LIMIT_EXCEEDED",
    ConsumerTooSlow: "CONSUMER_TOO_SLOW",
    Unauthenticated: "TOKEN_MISSING TOKEN_INVALID TOKEN_EXPIRED TOKEN_NOT_YET_VALID TOKEN_BINDING"
    " CLAIM_NOT_PERMITTED REFRESH_REFUSED",
    PermissionDenied: "PURPOSE_NOT_PERMITTED PUBLISH_DENIED POLICY_DENIED AUDIT_DENIED ADMINISTRATION_DENIED"
    " PROPOSAL_OWN",
    Suspended: "SUSPENDED",
    NotFound: "TOPIC_NOT_FOUND RECORD_TYPE_NOT_FOUND SUBSCRIPTION_NOT_FOUND ENTRY_NOT_FOUND REVISION_NOT_FOUND"
    " PROPOSAL_NOT_FOUND SUSPENSION_NOT_FOUND WITHDRAWAL_NOT_FOUND",
    RecordRefused: "RECORD_INVALID LABEL_INVALID SOURCE_FORGED ATTRIBUTE_RESERVED RECORD_TOO_LARGE RECORD_EXPIRED"
    " CONTENT_INVALID RECORD_WITHDRAWN",
    IdReused: "ID_REUSED",
    RequestRefused: "REQUEST_INVALID MESSAGE_TOO_LARGE METHOD_UNKNOWN STREAM_PROTOCOL RULEBOOK_REFUSED",
    CursorInvalid: "CURSOR_INVALID",
    PositionExpired: "POSITION_EXPIRED",
    TakenOver: "SUBSCRIPTION_TAKEN_OVER",
    StateConflict: "SUBSCRIPTION_EXISTS ACK_REFUSED ENTRY_NOT_PROVABLE RULEBOOK_UNCHANGED PROPOSAL_CLOSED"
    " PROPOSAL_STALE PROPOSAL_CHANGED PROPOSAL_UNCHECKED APPROVAL_MISSING SUSPENSION_SETTLED ACTIVATION_FAILED"
    " SIMULATION_FAILED ACTIVATION_UNDER_WAY",
    LedgerInconsistent: "LEDGER_INCONSISTENT",
    ExchangeFailed: "INTERNAL",
}
KINDS = {reason: kind for kind, reasons in _BY_REASON.items() for reason in reasons.split()}
"""The exception of each reason of the catalogue."""

_BY_CODE: dict[str, type[EntenteClientError]] = {
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": Unavailable,
    "RESOURCE_EXHAUSTED": LimitExceeded,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "INVALID_ARGUMENT": RequestRefused,
    "OUT_OF_RANGE": PositionExpired,
    "INTERNAL": ExchangeFailed,
}
"""For reasons of an exchange that is newer than this client."""


def error_of(
    reason: str,
    message: str,
    reference: str = "",
    code: str = "UNKNOWN",
    metadata: Mapping[str, str] | None = None,
) -> EntenteClientError:
    """The exception that a reason calls for; arguments as of EntenteClientError."""
    if reason == TRANSPORT:
        kind = Unavailable if code in _BROKEN else EntenteClientError
    else:
        kind = KINDS.get(reason) or _BY_CODE.get(code, EntenteClientError)
    return kind(reason, message, reference, code, metadata)


def is_retryable_refusal(reason: str) -> bool:
    """Whether a record that was refused so is to be sent again as it is, since the reason lies not in the record.

    A fault of the exchange says nothing about the record either, so INTERNAL is one of them: whoever gives a record up
    for it would lose what could be stored. A reason that this client does not know is taken for the record's.
    """
    return KINDS.get(reason) in (Unavailable, LimitExceeded, ExchangeFailed)


def from_rpc(error: grpc.aio.AioRpcError, endpoint: str) -> EntenteClientError:
    """Translate gRPC's error. `endpoint` is named when nothing but the transport can be blamed."""
    code = error.code().name
    info = _error_info(error.trailing_metadata() or ())
    if info is None:
        details = " ".join((error.details() or "no details").split())
        return error_of(TRANSPORT, f"{endpoint}: {details}", code=code)
    metadata = dict(info.metadata)
    reference = metadata.pop("reference", "")
    return error_of(info.reason, error.details() or info.reason, reference, code, metadata)


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
