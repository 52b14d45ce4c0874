"""`entente connect redrive`: dead letters are tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from connectors.cli.control import STATE_DIRECTORY, Name, Output, State, control, form_of
from connectors.cli.failures import ExitCode
from connectors.cli.output import show_one

if TYPE_CHECKING:
    from connectors.runtime.control_client import ControlClient
    from connectors.runtime.model import Redriven


def redrive(
    ctx: typer.Context,
    name: Name,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="At most so many; default: all that are there now.")
    ] = None,
    state: State = STATE_DIRECTORY,
    output: Output = None,
) -> None:
    """Try a connector's dead letters again, the oldest first; what is refused again becomes a dead letter again."""
    done = control(state, lambda client: _redrive(client, name, most))
    show_one(form_of(ctx, output), {"name": name, "tried": done.tried, "failed": done.failed})
    if done.failed:
        raise typer.Exit(ExitCode.PARTLY_PUBLISHED if done.failed < done.tried else ExitCode.REFUSED)


async def _redrive(client: ControlClient, name: str, most: int | None) -> Redriven:
    """With a bar on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from connectors.runtime.model import Redriven

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = Redriven()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("dead letters", total=most)
        async for done in client.redrive(name, most):
            bar.update(shown, completed=done.tried)
    return done
