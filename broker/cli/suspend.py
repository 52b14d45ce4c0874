"""`entente suspend`: an agency, a principal or a topic, at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.tokens import parse_ttl
from connectors.cli.output import choose_format, show_one

if TYPE_CHECKING:
    from protos.entente.v1 import overlays_pb2
    from protos.entente.v1.rulebook_pb2 import Person


@shared_options
def suspend(
    given: Given,
    kind: Annotated[
        Literal["agency", "principal", "topic"], typer.Argument(metavar="agency|principal|topic")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A principal's is AGENCY/SUBJECT.")],
    reason: Annotated[str, typer.Option(help="Why; for administrators and auditors only.")],
    for_: Annotated[
        str | None, typer.Option("--for", metavar="24h", help="How long (s, m, h, d); default: until lifted.")
    ] = None,
) -> None:
    """Suspend an agency, a principal or a topic; in force on every instance on return.

    An exchange administrator stops calls and streams, and another one ratifies it in time, or it lapses
    ('entente suspension ratify'). An agency's administrator does so with the agency's own people, and otherwise
    holds up the agency's own records: nothing is lost, and nobody is told.
    """
    lasts = None if for_ is None else timedelta(seconds=parse_ttl(for_, "--for"))
    done = call(given, lambda client: client.overlays.suspend(kind, name, reason, lasts))
    show_one(choose_format(given.output), {**shown(done.suspension), **confirmed(done.confirmation)})


def shown(suspension: overlays_pb2.Suspension) -> dict[str, object]:
    """A suspension as commands print it."""
    from protos.entente.v1 import overlays_pb2

    kind = overlays_pb2.SuspensionKind.Name(suspension.kind)
    state = overlays_pb2.SuspensionState.Name(suspension.state)
    return {
        "id": suspension.id,
        "kind": kind.removeprefix("SUSPENSION_KIND_").lower(),
        "target": suspension.target,
        "owner": suspension.owner or "exchange",
        "state": state.removeprefix("SUSPENSION_STATE_").lower(),
        "since": suspension.create_time.ToJsonString(),
        "until": time(suspension, "end_time"),
        "ratify_by": time(suspension, "ratify_by_time"),
        "ratified_by": person(suspension.ratified_by),
        "author": person(suspension.author),
        "reason": suspension.reason,
    }


def confirmed(confirmation: overlays_pb2.Confirmation) -> dict[str, object]:
    """How a change reached the instances; without those that are gone if there are none."""
    fenced = list(confirmation.fenced)
    return {"took_ms": confirmation.took_ms, **({"fenced": fenced} if fenced else {})}


def person(someone: Person) -> str | None:
    """AGENCY/SUBJECT, or None."""
    return f"{someone.agency}/{someone.subject}" if someone.agency else None


def time(
    message: overlays_pb2.Suspension | overlays_pb2.WithdrawalRecipient,
    name: Literal["end_time", "ratify_by_time", "notice_time"],
) -> str | None:
    """One of its times, or None."""
    found: str | None = getattr(message, name).ToJsonString() if message.HasField(name) else None  # type: ignore[arg-type]
    return found
