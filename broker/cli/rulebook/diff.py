"""`entente rulebook diff`: what is different between two rulebooks, in the words of the rulebook."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.opened import OpaOption, refuse_absent
from broker.cli.rulebook.proposed import change_lines, change_object
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, write_line

if TYPE_CHECKING:
    from broker.core.rulebook.difference import Change
    from connectors.client import Client


@shared_options
def diff(
    given: Given,
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="A rulebook's directory, or a .tar.gz of its files.")
    ],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="[NEW]", help="The same of the newer one; without it OLD is the newer one."),
    ] = None,
    opa: OpaOption = None,
) -> None:
    """Show what is different: agencies, topics, record types, agreements, words, rules, cases and guarantees.

    With one directory: what is different from the revision that is in force on the exchange, as far as you may see that.
    Layout and the order of names do not count, but that there is such a difference is told. Exits with 0 if the two are one
    revision, with 1 if they are not, and with 2 if they cannot be compared.
    """
    from broker.rpc.rulebook_messages import change

    found = _compared(old, new, opa) if new is not None else _from_in_force(given, old, opa)
    changes = [change(each) for each in found]
    if choose_format(given.output) is OutputFormat.TABLE:
        for line in change_lines(changes):
            write_line(line)
    else:
        show_all(choose_format(given.output), (), [change_object(each) for each in changes])
    if changes:
        raise typer.Exit(ExitCode.FAILED)


def _compared(old: Path, new: Path, opa: Path | None) -> tuple[Change, ...]:
    from broker.app.examination import compare_rulebooks
    from broker.errors import RulebookRefused

    refuse_absent(old)
    refuse_absent(new)
    try:
        return compare_rulebooks(old, new, opa)
    except RulebookRefused as refused:
        raise CommandFailed("; ".join(refused.findings), ExitCode.USAGE) from None


def _from_in_force(given: Given, path: Path, opa: Path | None) -> tuple[Change, ...]:
    refuse_absent(path)
    with tempfile.TemporaryDirectory(prefix="entente-diff-") as folder:
        archive = Path(folder) / "rulebook.tar.gz"

        async def fetch(client: Client) -> None:
            with archive.open("wb") as file:
                await client.rulebook.pull(file)

        call(given, fetch)
        return _compared(archive, path, opa)
