"""`entente subscription`: the caller's durable positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.start import encode_cursor, parse_start
from connectors.cli.output import choose_format, show_all, show_one
from connectors.cli.program import example

if TYPE_CHECKING:
    from protos.entente.v1.subscriptions_pb2 import Subscription

subscription = typer.Typer(
    name="subscription",
    help="Your durable positions; 'subscribe' makes them.",
    epilog=example("entente subscription list"),
)
_Name = Annotated[str, typer.Argument(metavar="NAME")]


@subscription.command("list", epilog=example("entente subscription list"))
@shared_options
def list_all(given: Given) -> None:
    """Your subscriptions, by name."""
    found = [_fields(each) for each in call(given, lambda client: client.list_subscriptions())]
    show_all(choose_format(given.output), ("name", "topic", "purpose", "created", "updated"), found)


@subscription.command("show", epilog=example("entente subscription show intake --context ems"))
@shared_options
def show(given: Given, name: _Name) -> None:
    """One subscription and a cursor of its acknowledged position."""
    show_one(choose_format(given.output), _fields(call(given, lambda client: client.get_subscription(name))))


@subscription.command(
    "seek", epilog=example("entente subscription seek intake --to 2026-01-31T00:00:00Z --context ems")
)
@shared_options
def seek(
    given: Given,
    name: _Name,
    to: Annotated[
        str,
        typer.Option(
            metavar="earliest|latest|TIME|CURSOR", help="TIME is RFC 3339; a CURSOR is one of its own."
        ),
    ],
) -> None:
    """Move a subscription; an open stream on it ends."""
    target = parse_start(to, option="--to")
    moved = call(given, lambda client: client.seek_subscription(name, target))
    show_one(choose_format(given.output), _fields(moved))


@subscription.command("delete", epilog=example("entente subscription delete intake --context ems"))
@shared_options
def delete(given: Given, name: _Name) -> None:
    """Delete a subscription and its position."""
    call(given, lambda client: client.delete_subscription(name))
    show_one(choose_format(given.output), {"deleted": name})


def _fields(found: Subscription) -> dict[str, object]:
    return {
        "name": found.name,
        "topic": found.topic,
        "purpose": found.purpose,
        "created": found.create_time.ToJsonString(),
        "updated": found.update_time.ToJsonString(),
        "cursor": encode_cursor(found.cursor),
    }
