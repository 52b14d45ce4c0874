"""Withdrawing a record, and telling what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.core.audit.readings import Readings
from broker.core.audit.view import Scope
from broker.core.control.desk import Enacted
from broker.core.overlay.announcing import Announcer
from broker.core.overlay.asking import NAME_BYTES, REASON_BYTES, Asking, line
from broker.core.overlay.events import withdrawal_body
from broker.core.overlay.notice import SOURCE, notice_id
from broker.core.record.envelope import source_agency
from broker.core.record.fingerprint import identity
from broker.errors import EntenteError, Reason
from broker.model.audit import Sighting
from broker.model.decision import Effect
from broker.model.overlay import Withdrawal
from broker.model.principal import Principal

WITHDRAWALS_MOST = 100_000
"""So many of one owner: they are kept for good, in every instance's memory (about 330 bytes each)."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who was handed the record. subject, subscription: "" where they are not shown, or there is none.

    notice_ms: when the notice was handed out first, None if it was not. acknowledged: by all who are told of here together.
    """

    agency: str
    subject: str
    purpose: str
    subscription: str
    record_ms: int
    record_acknowledged: bool
    notice_ms: int | None
    notice_acknowledged: bool


@dataclass(frozen=True, slots=True)
class WithdrawalReport:
    """published: the ledger knows the record. announced: notices are in the log for all who were handed it."""

    withdrawal: Withdrawal
    published: bool
    announced: bool
    recipients: tuple[Recipient, ...]


class WithdrawalDesk:
    """Every method raises EntenteError: see the service Overlays."""

    def __init__(self, asking: Asking, readings: Readings, announcer: Announcer, instance: str) -> None:
        self._asking = asking
        self._readings = readings
        self._announcer = announcer
        self._instance = instance

    async def withdraw(
        self, principal: Principal, source: str, record_id: str, reason: str, *, tell_reason: bool
    ) -> tuple[Withdrawal, Enacted]:
        """Returns when no live instance hands it out any more; notices follow."""
        owner = source_agency(source)
        rulings = await self._asking.permitted(principal, "withdraw", owner or principal.agency)
        if owner is None:
            raise EntenteError(Reason.REQUEST_INVALID, "the source does not begin with //<agency>/")
        new = Withdrawal(
            source=line(source, "the source", NAME_BYTES),
            id=line(record_id, "the id", NAME_BYTES),
            identity=identity(source, record_id),
            owner=owner,
            reason=line(reason, "the reason", REASON_BYTES),
            tell_reason=tell_reason,
            by_agency=principal.agency,
            by_subject=principal.subject,
            at_ms=self._asking.now_ms(),
            instance=self._instance,
        )
        fold = self._asking.state.overlays
        if fold.counts.get(owner, 0) >= WITHDRAWALS_MOST and new.identity not in fold.overlays.withdrawn:
            raise EntenteError(Reason.LIMIT_EXCEEDED, f"{WITHDRAWALS_MOST} withdrawn records of one agency")
        body = withdrawal_body(new)
        told = {name: value for name, value in body.items() if name not in ("by", "at_ms")}
        enacted = await self._asking.enact(principal, "withdrawn", told, body, rulings)
        self._announcer.confirmed(new.identity)
        return self._asking.state.overlays.overlays.withdrawn[new.identity], enacted

    async def report(self, principal: Principal, source: str, record_id: str) -> WithdrawalReport:
        """Who had been handed the record, and who has acknowledged what; each its part of it."""
        scope = await self._asking.scope(principal)
        await self._readings.account(principal, "GetWithdrawal", {"source": source, "id": record_id})
        fold = self._asking.state.overlays
        found = fold.overlays.withdrawn.get(identity(source, record_id))
        if found is None or not scope.sees(found.owner):
            raise EntenteError(Reason.WITHDRAWAL_NOT_FOUND)
        async with self._readings.unrestricted() as (_, index):
            published = bool(await index.publications(source, record_id))
            records = await index.sightings(source, record_id)
            notices = await index.sightings(SOURCE, notice_id(found))
        rows = recipients(scope, records, notices)
        return WithdrawalReport(found, published, found.identity in fold.announced, rows)


_Stream = tuple[str, str, str, str]


def recipients(
    scope: Scope, records: Iterable[Sighting], notices: Iterable[Sighting]
) -> tuple[Recipient, ...]:
    """By principal and subscription, or, of other agencies than the scope's, by agency and purpose."""
    handed, told = _by_stream(records), _by_stream(notices)
    shown: dict[_Stream, list[_Stream]] = {}
    for stream, sightings in handed.items():
        if any(each.effect == Effect.RELEASE.value for each in sightings):
            agency, _, purpose, _ = stream
            shown.setdefault(stream if scope.sees(agency) else (agency, "", purpose, ""), []).append(stream)
    return tuple(_recipient(key, streams, handed, told) for key, streams in sorted(shown.items()))


def _recipient(
    key: _Stream,
    streams: Sequence[_Stream],
    handed: dict[_Stream, list[Sighting]],
    told: dict[_Stream, list[Sighting]],
) -> Recipient:
    agency, subject, purpose, subscription = key
    notice_times = [each.time_ms for stream in streams for each in told.get(stream, ())]
    return Recipient(
        agency=agency,
        subject=subject,
        purpose=purpose,
        subscription=subscription,
        record_ms=min(each.time_ms for stream in streams for each in handed[stream]),
        record_acknowledged=all(_acknowledged(handed[stream]) for stream in streams),
        notice_ms=min(notice_times, default=None),
        notice_acknowledged=all(_acknowledged(told.get(stream, ())) for stream in streams),
    )


def _by_stream(sightings: Iterable[Sighting]) -> dict[_Stream, list[Sighting]]:
    """By who reads on from where the last stream ended: those without a name do so themselves."""
    found: dict[_Stream, list[Sighting]] = {}
    for each in sightings:
        found.setdefault((each.agency, each.subject, each.purpose, each.subscription), []).append(each)
    return found


def _acknowledged(sightings: Iterable[Sighting]) -> bool:
    return any(each.acknowledged for each in sightings)
