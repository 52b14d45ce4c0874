"""`entente whoami` and `entente can-i`: the caller as the exchange sees it, and what it may do."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import choose_format, show_one

if TYPE_CHECKING:
    from protos.entente.v1.catalog_pb2 import AgreementSummary, CanIResponse, WhoAmIResponse


class Wish(StrEnum):
    """What the caller would do."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@shared_options
def whoami(given: Given) -> None:
    """Show the identity as the exchange accepted it: expiry, clock skew, agreements that name your agency."""
    asked_s = time.time()
    answer = call(given, lambda client: client.who_am_i())
    # The exchange read its clock about halfway between asking and hearing.
    show_one(choose_format(given.output), identity(answer, now_s=(asked_s + time.time()) / 2))


def identity(answer: WhoAmIResponse, *, now_s: float) -> dict[str, object]:
    """The answer as an object; `clock_skew_s` is how far this machine's clock is ahead of the exchange's."""
    server_s = answer.server_time.ToNanoseconds() / 1e9
    return {
        "agency": answer.agency,
        "subject": answer.subject,
        "roles": list(answer.roles),
        "purposes": list(answer.purposes),
        "attributes": dict(sorted(answer.attributes.items())),
        "expires": answer.expire_time.ToJsonString(),
        "expires_in_s": round(answer.expire_time.ToNanoseconds() / 1e9 - server_s),
        "clock_skew_s": round(now_s - server_s, 1),
        "agreements": [_agreement(each) for each in answer.agreements],
    }


@shared_options
def can_i(
    given: Given,
    action: Annotated[Wish, typer.Argument(help="publish or subscribe")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    purpose: Annotated[str, typer.Option(help="Needed for subscribe.")] = "",
) -> None:
    """Ask whether you may; exits with 3 if not. An unknown purpose is answered with the vocabulary."""
    if action is Wish.SUBSCRIBE and not purpose:
        raise CommandFailed("subscribing needs --purpose; see 'entente catalog vocabulary'", ExitCode.USAGE)
    wish: Literal["publish", "subscribe"] = "publish" if action is Wish.PUBLISH else "subscribe"
    answer = call(given, lambda client: client.can_i(wish, topic, purpose))
    show_one(choose_format(given.output), permission(action, topic, purpose, answer))
    if not answer.permitted:
        raise typer.Exit(ExitCode.REFUSED)


def permission(action: Wish, topic: str, purpose: str, answer: CanIResponse) -> dict[str, object]:
    """The answer as an object."""
    return {
        "permitted": answer.permitted,
        "action": action.value,
        "topic": topic,
        "purpose": purpose or None,
        "record_types": list(answer.record_types),
        "agreements": [_agreement(each) for each in answer.agreements],
    }


def _agreement(summary: AgreementSummary) -> dict[str, object]:
    return {
        "owner": summary.owner,
        "topics": list(summary.topics),
        "purposes": list(summary.purposes),
        "highest_classification": summary.highest_classification,
        "grants": summary.grants,
    }
