"""The bodies of the control log's events about overlays: written here, and read here."""

from __future__ import annotations

from collections.abc import Mapping

from broker.core.control.values import whole_number, word
from broker.core.record.envelope import source_agency
from broker.core.record.fingerprint import identity
from broker.model.ledger import JsonValue
from broker.model.overlay import Suspension, SuspensionKind, Withdrawal

Body = Mapping[str, JsonValue]


def suspension_body(suspension: Suspension) -> dict[str, JsonValue]:
    """Of a `suspended` event, and of the entry that precedes it."""
    return {
        **brief_body(suspension),
        "reason": suspension.reason,
        "by": who_body(suspension.by_agency, suspension.by_subject),
        "since_ms": suspension.since_ms,
        "until_ms": suspension.until_ms,
        "ratify_by_ms": suspension.ratify_by_ms,
    }


def brief_body(suspension: Suspension) -> dict[str, JsonValue]:
    """What the ledger says of a suspension whenever it changes."""
    return {
        "id": suspension.id,
        "kind": suspension.kind.value,
        "target": suspension.target,
        "owner": suspension.owner,
    }


def withdrawal_body(withdrawal: Withdrawal) -> dict[str, JsonValue]:
    """Of a `withdrawn` event, and of the entry that precedes it."""
    return {
        "source": withdrawal.source,
        "id": withdrawal.id,
        "reason": withdrawal.reason,
        "tell_reason": withdrawal.tell_reason,
        "by": who_body(withdrawal.by_agency, withdrawal.by_subject),
        "at_ms": withdrawal.at_ms,
    }


def who_body(agency: str, subject: str) -> JsonValue:
    """The member `by`."""
    return {"agency": agency, "subject": subject}


def read_suspension(body: Body) -> Suspension:
    """Raises KeyError, ValueError."""
    return Suspension(
        read_id(body),
        SuspensionKind(word(body, "kind")),
        word(body, "target"),
        None if body.get("owner") is None else word(body, "owner"),
        word(body, "reason"),
        *read_who(body),
        whole_number(body, "since_ms"),
        _optional_number(body, "until_ms"),
        _optional_number(body, "ratify_by_ms"),
    )


def read_withdrawal(body: Body, instance: str) -> Withdrawal:
    """Raises KeyError, ValueError, also for a source that names no owner."""
    source, record_id = word(body, "source"), read_id(body)
    owner, tell_reason = source_agency(source), body.get("tell_reason")
    if owner is None or not isinstance(tell_reason, bool):
        raise ValueError("the source names no owner, or it is not said whether the reason is told")
    return Withdrawal(
        source=source,
        id=record_id,
        identity=identity(source, record_id),
        owner=owner,
        reason=word(body, "reason"),
        tell_reason=tell_reason,
        **dict(zip(("by_agency", "by_subject"), read_who(body), strict=True)),
        at_ms=whole_number(body, "at_ms"),
        instance=instance,
    )


def read_named(body: Body) -> bytes:
    """The identity of the record that an event names by source and id. Raises KeyError, ValueError."""
    return identity(word(body, "source"), read_id(body))


def read_id(body: Body) -> str:
    """Raises KeyError, ValueError."""
    return word(body, "id")


def read_who(body: Body) -> tuple[str, str]:
    """Agency and subject of who caused the event. Raises KeyError, ValueError."""
    match body.get("by"):
        case {"agency": str(agency), "subject": str(subject)}:
            return agency, subject
    raise ValueError("'by' is nobody")


def _optional_number(body: Body, name: str) -> int | None:
    return None if body.get(name) is None else whole_number(body, name)
