"""`entente rulebook new`: a first part of the rulebook for a new agency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.command import shared_options
from broker.cli.rulebook.opened import refuse_absent
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line


@shared_options
def new(
    given: Given,
    agency: Annotated[str, typer.Argument(metavar="AGENCY", help="Its name: a-z, 0-9 and '-'.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The rulebook's directory.")],
    title: Annotated[str | None, typer.Option(help="Its name for people; default: AGENCY.")] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to ask; default: an example.")] = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role that its tokens may assert; repeatable.")
    ] = None,
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", help="A purpose that they may state; repeatable.")
    ] = None,
    clearance: Annotated[
        str | None, typer.Option(help="The ceiling of its clearance; default: the lowest.")
    ] = None,
) -> None:
    """Write the skeleton of a new agency: data, module with comments, its test, a guarantee, and cases.

    It passes `entente rulebook check` as it is, and grants nobody anything. No file is ever overwritten.
    """
    from broker.app.new_agency import add_agency
    from broker.core.rulebook.skeleton import NotNew, Registration
    from broker.errors import RulebookRefused

    refuse_absent(into)
    registration = Registration(
        agency, title or agency, contact or f"contact@{agency}.example", role or (), purpose or (), clearance
    )
    try:
        made = add_agency(into, registration)
    except NotNew as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None
    except RulebookRefused as refused:
        raise CommandFailed("; ".join(refused.findings), ExitCode.USAGE) from None
    if choose_format(given.output) is OutputFormat.TABLE:
        for path in made:
            write_line(str(into / path))
    else:
        show_one(
            choose_format(given.output), {"agency": agency, "files": [str(into / path) for path in made]}
        )
