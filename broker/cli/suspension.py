"""`entente suspension`: what is suspended; ratify and lift it."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.suspend import confirmed, shown
from connectors.cli.output import choose_format, show_all, show_one
from connectors.cli.program import example

suspension = typer.Typer(
    name="suspension",
    help="What is suspended; 'suspend' begins it.",
    epilog=example("entente suspension list --context admin-1"),
)
_Id = Annotated[str, typer.Argument(metavar="ID")]
_COLUMNS = ("id", "kind", "target", "owner", "state", "since", "until", "ratify_by", "reason")


@suspension.command("list", epilog=example("entente suspension list --all --context ems-admin"))
@shared_options
def list_all(
    given: Given, all_: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False
) -> None:
    """Suspensions that you may see: of your agency, or, as an exchange administrator, all."""
    found = call(given, lambda client: client.overlays.suspensions(past=all_))
    show_all(choose_format(given.output), _COLUMNS, [shown(each) for each in found])


@suspension.command("ratify", epilog=example("entente suspension ratify 5f0c91b2aa0de0f1 --context admin-2"))
@shared_options
def ratify(given: Given, id_: _Id) -> None:
    """Keep another administrator's suspension from lapsing."""
    done = call(given, lambda client: client.overlays.ratify(id_))
    show_one(choose_format(given.output), {**shown(done.suspension), **confirmed(done.confirmation)})


@suspension.command("lift", epilog=example("entente suspension lift 5f0c91b2aa0de0f1 --context admin-1"))
@shared_options
def lift(given: Given, id_: _Id) -> None:
    """End a suspension; records that waited are delivered from then on."""
    done = call(given, lambda client: client.overlays.lift(id_))
    show_one(choose_format(given.output), {**shown(done.suspension), **confirmed(done.confirmation)})
