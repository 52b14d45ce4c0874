"""The one catalogue of errors: reason -> canonical gRPC status code name and public text.

Each error is one line that says what is wrong, where, and what to do. Details are built from names that the caller sent
or may know, never from a payload, a token or a key (design rule 2).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

DETAIL_CHARACTERS = 200
"""The most of a detail that is shown."""

DOMAIN = "entente"
"""`google.rpc.ErrorInfo.domain` of every error."""


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    text: str


class Reason(Enum):
    """`google.rpc.ErrorInfo.reason`; the value is the canonical status code's name and the public text."""

    # Identity
    TOKEN_MISSING = _Entry("UNAUTHENTICATED", "No bearer token; send 'authorization: Bearer <JWT>'.")
    TOKEN_INVALID = _Entry("UNAUTHENTICATED", "The token was not accepted: {detail}.")
    TOKEN_EXPIRED = _Entry(
        "UNAUTHENTICATED", "The token has expired; get a new one from your agency's issuer."
    )
    TOKEN_NOT_YET_VALID = _Entry("UNAUTHENTICATED", "The token is not valid yet; check the issuer's clock.")
    TOKEN_BINDING = _Entry(
        "UNAUTHENTICATED", "The token is bound to a certificate that this connection did not present."
    )
    CLAIM_NOT_PERMITTED = _Entry(
        "UNAUTHENTICATED", "The token claims {detail}, beyond its agency's registration."
    )
    ISSUER_UNAVAILABLE = _Entry(
        "UNAVAILABLE", "The keys of the token's issuer cannot be fetched now; try again."
    )
    # What the caller may do
    TOPIC_NOT_FOUND = _Entry(
        "NOT_FOUND", "Topic '{detail}' may not be used by this caller, or it might not exist."
    )
    RECORD_TYPE_NOT_FOUND = _Entry(
        "NOT_FOUND", "Record type '{detail}' may not be used here, or it might not exist."
    )
    SUBSCRIPTION_NOT_FOUND = _Entry(
        "NOT_FOUND", "You have no subscription '{detail}'; create it or open the stream with it."
    )
    SUBSCRIPTION_EXISTS = _Entry(
        "ALREADY_EXISTS",
        "Your subscription '{detail}' exists with another topic or purpose; use another name.",
    )
    PURPOSE_NOT_PERMITTED = _Entry(
        "PERMISSION_DENIED", "The token does not permit purpose '{detail}'; state one that it does."
    )
    PUBLISH_DENIED = _Entry(
        "PERMISSION_DENIED", "The rulebook does not let this caller publish '{detail}' records on this topic."
    )
    POLICY_DENIED = _Entry(
        "PERMISSION_DENIED", "The rulebook no longer permits this stream; ask the topic's owner."
    )
    # Records
    RECORD_INVALID = _Entry("INVALID_ARGUMENT", "The record was refused: {detail}.")
    LABEL_INVALID = _Entry("INVALID_ARGUMENT", "The record's labels were refused: {detail}.")
    SOURCE_FORGED = _Entry("PERMISSION_DENIED", "The record's source must begin with //{detail}/.")
    ATTRIBUTE_RESERVED = _Entry(
        "INVALID_ARGUMENT", "Attribute '{detail}' is stamped by the exchange; leave it out."
    )
    RECORD_TOO_LARGE = _Entry(
        "INVALID_ARGUMENT", "The record is larger than the limit of {detail} bytes; split it."
    )
    RECORD_EXPIRED = _Entry(
        "INVALID_ARGUMENT", "The record's expirytime has passed; publish it with a later one."
    )
    ID_REUSED = _Entry(
        "ALREADY_EXISTS", "A different record with this source and id exists; use a new id for a new version."
    )
    CONTENT_INVALID = _Entry("INVALID_ARGUMENT", "The record's content was refused: {detail}.")
    # Requests
    REQUEST_INVALID = _Entry("INVALID_ARGUMENT", "The request was refused: {detail}.")
    MESSAGE_TOO_LARGE = _Entry(
        "RESOURCE_EXHAUSTED", "The message is larger than the limit of {detail} bytes; send smaller batches."
    )
    LIMIT_EXCEEDED = _Entry(
        "RESOURCE_EXHAUSTED", "Over the limit of {detail}; try again later or use fewer at once."
    )
    METHOD_UNKNOWN = _Entry("UNIMPLEMENTED", "No such method; see the API reference.")
    # Streams and cursors
    CURSOR_INVALID = _Entry(
        "INVALID_ARGUMENT",
        "The cursor is not one of yours for this topic; start from earliest, latest or a time.",
    )
    POSITION_EXPIRED = _Entry(
        "OUT_OF_RANGE", "The position lies before the topic's retention; choose earliest, or latest to skip."
    )
    ACK_REFUSED = _Entry(
        "FAILED_PRECONDITION",
        "The acknowledgement is for a stream that is no longer this subscription's; reopen it.",
    )
    SUBSCRIPTION_TAKEN_OVER = _Entry(
        "ABORTED", "Another stream opened this subscription; only the newest one is served."
    )
    STREAM_PROTOCOL = _Entry("INVALID_ARGUMENT", "The stream's messages are out of order: {detail}.")
    REFRESH_REFUSED = _Entry(
        "UNAUTHENTICATED", "The refreshed token is for another principal; open a new stream with it."
    )
    CONSUMER_TOO_SLOW = _Entry(
        "RESOURCE_EXHAUSTED",
        "The stream was not read for {detail} seconds; read faster or grant less credit.",
    )
    DRAINING = _Entry(
        "UNAVAILABLE", "This instance is shutting down; reconnect and resume from the last cursor."
    )
    # Reading the ledger
    AUDIT_DENIED = _Entry(
        "PERMISSION_DENIED",
        "The rulebook does not let this caller read the ledger; ask the exchange's operator.",
    )
    ENTRY_NOT_FOUND = _Entry(
        "NOT_FOUND", "Ledger entry '{detail}' may not be read by this caller, or it might not exist."
    )
    ENTRY_NOT_PROVABLE = _Entry("FAILED_PRECONDITION", "The entry cannot be proved: {detail}.")
    REVISION_NOT_FOUND = _Entry(
        "NOT_FOUND", "Rulebook revision '{detail}' is not kept here, or cannot be run any more; name another."
    )
    AUDIT_UNAVAILABLE = _Entry(
        "UNAVAILABLE", "The ledger cannot be read, or its index is not up to date yet; try again."
    )
    LEDGER_INCONSISTENT = _Entry(
        "DATA_LOSS", "The ledger is not the continuation of what was read before; its operator has been told."
    )
    # Changing the rulebook
    ADMINISTRATION_DENIED = _Entry(
        "PERMISSION_DENIED",
        "The rulebook does not let this caller do that; ask the exchange's administrators.",
    )
    RULEBOOK_REFUSED = _Entry("INVALID_ARGUMENT", "The rulebook was refused: {detail}.")
    RULEBOOK_UNCHANGED = _Entry(
        "FAILED_PRECONDITION", "The proposal changes nothing; edit the rulebook, and propose it then."
    )
    PROPOSAL_NOT_FOUND = _Entry(
        "NOT_FOUND", "Proposal '{detail}' does not concern this caller, or it might not exist."
    )
    PROPOSAL_CLOSED = _Entry(
        "FAILED_PRECONDITION", "The proposal was {detail}; propose the change anew if it is still wanted."
    )
    PROPOSAL_STALE = _Entry(
        "ABORTED", "The rulebook has changed since; pull it, make the change there, and propose it again."
    )
    PROPOSAL_CHANGED = _Entry(
        "ABORTED", "The proposal is of another revision by now; look at it again, and approve that."
    )
    PROPOSAL_OWN = _Entry(
        "PERMISSION_DENIED", "The proposal is your own; another administrator has to approve it."
    )
    PROPOSAL_UNCHECKED = _Entry("FAILED_PRECONDITION", "The proposal cannot go on: {detail}.")
    APPROVAL_MISSING = _Entry(
        "FAILED_PRECONDITION", "The proposal needs more approvals: {detail}; have others approve it."
    )
    # Suspending and withdrawing
    SUSPENDED = _Entry(
        "PERMISSION_DENIED",
        "This is suspended: {detail}; ask your agency's administrators or the exchange's, and try again later.",
    )
    SUSPENSION_NOT_FOUND = _Entry(
        "NOT_FOUND", "Suspension '{detail}' is over, not this caller's to change, or it might not exist."
    )
    SUSPENSION_SETTLED = _Entry(
        "FAILED_PRECONDITION", "The suspension needs nobody to ratify it; list the suspensions."
    )
    WITHDRAWAL_NOT_FOUND = _Entry(
        "NOT_FOUND", "No record of this name was withdrawn by the caller's agency, or it might not exist."
    )
    RECORD_WITHDRAWN = _Entry(
        "FAILED_PRECONDITION",
        "The record of this source and id was withdrawn; publish what replaces it under a new id.",
    )
    # Agreement between the exchange's instances
    ACTIVATION_FAILED = _Entry(
        "FAILED_PRECONDITION", "The revision was not activated, and nothing changed: {detail}."
    )
    SIMULATION_FAILED = _Entry(
        "FAILED_PRECONDITION",
        "The simulation came to no result: {detail}; simulate it again, or look at it with `entente rulebook check`.",
    )
    ACTIVATION_UNDER_WAY = _Entry("ABORTED", "Another activation is under way: {detail}; try again after it.")
    AGREEMENT_UNAVAILABLE = _Entry(
        "UNAVAILABLE",
        "The exchange's instances cannot agree now; look at what came into force before you try again.",
    )
    # The exchange's own state
    POLICY_UNAVAILABLE = _Entry("UNAVAILABLE", "No decision could be had from the policy engine; try again.")
    STORAGE_UNAVAILABLE = _Entry(
        "UNAVAILABLE", "The record log cannot be reached; try again, acknowledged records are safe."
    )
    STORAGE_FULL = _Entry(
        "UNAVAILABLE", "The exchange's storage is full; its operator has been told, try again later."
    )
    LEDGER_UNAVAILABLE = _Entry(
        "UNAVAILABLE", "The ledger cannot be written, and nothing goes out unaccounted; try again."
    )
    INTERNAL = _Entry("INTERNAL", "The exchange failed; give its operator the reference.")

    @property
    def code(self) -> str:
        """The canonical code's name, e.g. NOT_FOUND (google.rpc.Code)."""
        return self.value.code

    def text(self, detail: str = "") -> str:
        """The public one-line text."""
        return self.value.text.format(detail=detail)


class Told(Protocol):
    """A decision that the ledger can hold: broker.core.decide.Ruling."""

    def told_under(self, rules: Any) -> dict[str, Any]:
        """As an entry under `rules` holds it."""


class EntenteError(Exception):
    """The one exception that crosses layers; `detail` fills the catalogue's text and must be fit for the caller.

    metadata: more for `google.rpc.ErrorInfo.metadata`, such as the vocabulary that an unknown purpose is answered with.
    decisions: by which the call was refused, for the ledger: never shown to the caller.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        metadata: Mapping[str, str] | None = None,
        *,
        decisions: tuple[Told, ...] = (),
    ) -> None:
        detail = _shown(detail)
        super().__init__(reason.text(detail))
        self.reason = reason
        self.detail = detail
        self.metadata = dict(metadata or {})
        self.decisions = decisions


def _shown(detail: str) -> str:
    """One printable line of bounded length, since some details are names as a caller sent them."""
    shown = "".join(
        character if character.isprintable() else "?" for character in detail[: DETAIL_CHARACTERS + 1]
    )
    return shown if len(shown) <= DETAIL_CHARACTERS else shown[:DETAIL_CHARACTERS] + "…"


def fault_place(error: BaseException) -> str:
    """Type and call stack of an unforeseen error for a log line; never its message, which could hold a payload."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(
        f"{frame.name}:{frame.lineno}" for frame in reversed(frames)
    )


class NoDecision(Exception):
    """The engine gave no well-formed decision: down, slow, undefined, malformed or of another revision.

    Never a verdict: whoever meets it stalls and tries again (design rule 1).
    """


class PositionExpired(Exception):
    """A read below the log's earliest retained offset; `earliest` is where each partition begins now."""

    def __init__(self, earliest: tuple[int, ...]) -> None:
        super().__init__("position lies before the topic's retention")
        self.earliest = earliest


class StorageUnavailable(Exception):
    """A store cannot be reached or written now; nothing that was acknowledged is lost. `full`: no space is left."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class LedgerFenced(StorageUnavailable):
    """A newer instance of the same name writes the ledger: this one must release nothing any more, and stop."""


class LedgerRefused(Exception):
    """The ledger is not what it was, so the exchange does not start; `findings` are one line each: place and what to do."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class EpochConflict(Exception):
    """A compare-and-set met another epoch: somebody took the subscription over, or moved it."""


class RulebookRefused(Exception):
    """A rulebook cannot become a revision; `findings` are one line each: place, what is wrong, what to do."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings
