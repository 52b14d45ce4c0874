"""`entente withdraw`: a record is never delivered again, and those who were handed it are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.suspend import confirmed, person, time
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one

if TYPE_CHECKING:
    from protos.entente.v1 import overlays_pb2

_COLUMNS = (
    "agency",
    "subject",
    "purpose",
    "subscription",
    "received",
    "acknowledged",
    "notified",
    "notice_acknowledged",
)


@shared_options
def withdraw(
    given: Given,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The record's source, //AGENCY/… of yours.")
    ],
    id_: Annotated[str, typer.Argument(metavar="ID")],
    reason: Annotated[str | None, typer.Option(help="Why; for administrators and auditors.")] = None,
    tell_reason: Annotated[bool, typer.Option(help="Tell it to those who were handed the record.")] = False,
    status: Annotated[
        bool, typer.Option(help="Only show who was handed it, and who has acknowledged what.")
    ] = False,
) -> None:
    """Withdraw a record of your agency for good; handed out by no instance any more on return.

    Those who were handed it get a notice in their streams. Publish what replaces it under another id.
    """
    form = choose_format(given.output)
    if status:
        if reason is not None or tell_reason:
            raise CommandFailed(
                "--status changes nothing; leave out --reason and --tell-reason", ExitCode.USAGE
            )
        report = call(given, lambda client: client.overlays.withdrawal(source, id_))
        _show_report(form, report)
        return
    if reason is None:
        raise CommandFailed("--reason is missing; say why", ExitCode.USAGE)
    done = call(given, lambda client: client.overlays.withdraw(source, id_, reason, tell_reason=tell_reason))
    show_one(form, {**_shown(done.withdrawal), **confirmed(done.confirmation)})


def _show_report(form: OutputFormat, report: overlays_pb2.GetWithdrawalResponse) -> None:
    """A table has a row for each recipient; JSON is one object."""
    recipients = [_recipient(each) for each in report.recipients]
    whole = {**_shown(report.withdrawal), "published": report.published, "announced": report.announced}
    if form is not OutputFormat.TABLE:
        show_one(form, {**whole, "recipients": recipients})
        return
    show_one(form, whole)
    show_all(form, _COLUMNS, recipients)


def _shown(withdrawal: overlays_pb2.RecordWithdrawal) -> dict[str, object]:
    return {
        "source": withdrawal.source,
        "id": withdrawal.id,
        "reason": withdrawal.reason,
        "reason_told": withdrawal.reason_told,
        "author": person(withdrawal.author),
        "time": withdrawal.create_time.ToJsonString(),
    }


def _recipient(recipient: overlays_pb2.WithdrawalRecipient) -> dict[str, object]:
    return {
        "agency": recipient.agency,
        "subject": recipient.subject or None,
        "purpose": recipient.purpose,
        "subscription": recipient.subscription or None,
        "received": recipient.record_time.ToJsonString(),
        "acknowledged": recipient.record_acknowledged,
        "notified": time(recipient, "notice_time"),
        "notice_acknowledged": recipient.notice_acknowledged,
    }
