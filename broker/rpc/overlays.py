"""The Overlays service."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from broker.core.control.desk import Enacted
from broker.core.overlay.asking import OPERATOR
from broker.core.overlay.suspending import Suspended, SuspensionDesk
from broker.core.overlay.withdrawing import Recipient, WithdrawalDesk
from broker.errors import EntenteError, Reason
from broker.model.overlay import EndCause, PastSuspension, Suspension, SuspensionKind, Withdrawal
from broker.model.principal import Principal
from broker.rpc.call import Call
from protos.entente.v1 import overlays_pb2, rulebook_pb2

_KINDS = {
    SuspensionKind.AGENCY: overlays_pb2.SUSPENSION_KIND_AGENCY,
    SuspensionKind.PRINCIPAL: overlays_pb2.SUSPENSION_KIND_PRINCIPAL,
    SuspensionKind.TOPIC: overlays_pb2.SUSPENSION_KIND_TOPIC,
}
_ASKED = {number: kind for kind, number in _KINDS.items()}
_OVER = {
    EndCause.LIFTED: overlays_pb2.SUSPENSION_STATE_LIFTED,
    EndCause.ENDED: overlays_pb2.SUSPENSION_STATE_ENDED,
    EndCause.LAPSED: overlays_pb2.SUSPENSION_STATE_LAPSED,
}


class OverlaysServicer:
    """Translates between protobuf and the desks."""

    def __init__(self, suspensions: SuspensionDesk, withdrawals: WithdrawalDesk) -> None:
        self._suspensions = suspensions
        self._withdrawals = withdrawals

    async def suspend(self, call: Call) -> None:
        """Overlays.Suspend."""
        request = overlays_pb2.SuspendRequest.FromString(call.request)
        done = await self._suspensions.suspend(
            call.caller,
            _ASKED.get(request.kind),
            request.target,
            request.reason,
            _milliseconds(request) if request.HasField("duration") else None,
        )
        call.response = overlays_pb2.SuspendResponse(
            suspension=_suspension(done.suspension), confirmation=_confirmation(call.caller, done.enacted)
        ).SerializeToString()

    async def list(self, call: Call) -> None:
        """Overlays.ListSuspensions."""
        request = overlays_pb2.ListSuspensionsRequest.FromString(call.request)
        found = await self._suspensions.list(call.caller, past=request.all)
        shown = [_past(each) if isinstance(each, PastSuspension) else _suspension(each) for each in found]
        call.response = overlays_pb2.ListSuspensionsResponse(suspensions=shown).SerializeToString()

    async def ratify(self, call: Call) -> None:
        """Overlays.Ratify."""
        request = overlays_pb2.RatifyRequest.FromString(call.request)
        done = await self._suspensions.ratify(call.caller, request.id)
        call.response = overlays_pb2.RatifyResponse(
            suspension=_suspension(done.suspension), confirmation=_confirmation(call.caller, done.enacted)
        ).SerializeToString()

    async def lift(self, call: Call) -> None:
        """Overlays.Lift."""
        request = overlays_pb2.LiftRequest.FromString(call.request)
        done = await self._suspensions.lift(call.caller, request.id)
        call.response = overlays_pb2.LiftResponse(
            suspension=_lifted(done), confirmation=_confirmation(call.caller, done.enacted)
        ).SerializeToString()

    async def withdraw(self, call: Call) -> None:
        """Overlays.Withdraw."""
        request = overlays_pb2.WithdrawRequest.FromString(call.request)
        withdrawal, enacted = await self._withdrawals.withdraw(
            call.caller, request.source, request.id, request.reason, tell_reason=request.tell_reason
        )
        call.response = overlays_pb2.WithdrawResponse(
            withdrawal=_withdrawal(withdrawal), confirmation=_confirmation(call.caller, enacted)
        ).SerializeToString()

    async def get_withdrawal(self, call: Call) -> None:
        """Overlays.GetWithdrawal."""
        request = overlays_pb2.GetWithdrawalRequest.FromString(call.request)
        report = await self._withdrawals.report(call.caller, request.source, request.id)
        call.response = overlays_pb2.GetWithdrawalResponse(
            withdrawal=_withdrawal(report.withdrawal),
            published=report.published,
            announced=report.announced,
            recipients=[_recipient(each) for each in report.recipients],
        ).SerializeToString()


def _milliseconds(request: overlays_pb2.SuspendRequest) -> int:
    try:
        return request.duration.ToMilliseconds()
    except ValueError:
        raise EntenteError(Reason.REQUEST_INVALID, "its duration is none") from None


def _confirmation(caller: Principal, enacted: Enacted) -> overlays_pb2.Confirmation:
    """Which instances there are is the operator's to know."""
    fenced = enacted.fenced if caller.agency == OPERATOR else ()
    return overlays_pb2.Confirmation(took_ms=max(1, round(enacted.took_ms)), fenced=fenced)


def _suspension(suspension: Suspension) -> overlays_pb2.Suspension:
    return overlays_pb2.Suspension(
        id=suspension.id,
        kind=_KINDS[suspension.kind],
        target=suspension.target,
        owner=suspension.owner or "",
        reason=suspension.reason,
        author=_person((suspension.by_agency, suspension.by_subject)),
        create_time=_time(suspension.since_ms),
        end_time=_time(suspension.until_ms),
        ratify_by_time=_time(suspension.ratify_by_ms),
        ratified_by=_person(suspension.ratified_by),
        state=overlays_pb2.SUSPENSION_STATE_IN_FORCE,
    )


def _past(past: PastSuspension) -> overlays_pb2.Suspension:
    shown = _suspension(past.suspension)
    shown.state = _OVER[past.cause]
    shown.over_time.FromMilliseconds(past.at_ms)
    return shown


def _lifted(done: Suspended) -> overlays_pb2.Suspension:
    return _suspension(done.suspension) if done.over is None else _past(done.over)


def _withdrawal(withdrawal: Withdrawal) -> overlays_pb2.RecordWithdrawal:
    return overlays_pb2.RecordWithdrawal(
        source=withdrawal.source,
        id=withdrawal.id,
        reason=withdrawal.reason,
        reason_told=withdrawal.tell_reason,
        author=_person((withdrawal.by_agency, withdrawal.by_subject)),
        create_time=_time(withdrawal.at_ms),
    )


def _recipient(recipient: Recipient) -> overlays_pb2.WithdrawalRecipient:
    return overlays_pb2.WithdrawalRecipient(
        agency=recipient.agency,
        subject=recipient.subject,
        purpose=recipient.purpose,
        subscription=recipient.subscription,
        record_time=_time(recipient.record_ms),
        record_acknowledged=recipient.record_acknowledged,
        notice_time=_time(recipient.notice_ms),
        notice_acknowledged=recipient.notice_acknowledged,
    )


def _person(person: tuple[str, str] | None) -> rulebook_pb2.Person | None:
    """None also where it is not the caller's to know."""
    if person is None or not person[0]:
        return None
    return rulebook_pb2.Person(agency=person[0], subject=person[1])


def _time(time_ms: int | None) -> Timestamp | None:
    if time_ms is None:
        return None
    stamp = Timestamp()
    stamp.FromMilliseconds(time_ms)
    return stamp
