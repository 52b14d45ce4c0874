"""What the commands that talk to a running process share: its state directory, the calls, the errors, the result's form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format

if TYPE_CHECKING:
    from connectors.runtime.control_client import ControlClient
    from connectors.runtime.status import ConnectorStatus

_T = TypeVar("_T")

STATE_DIRECTORY = Path("entente-connect")

State = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="The state directory of the process that runs them.")
]
Output = Annotated[
    OutputFormat | None, typer.Option("--output", "-o", help="Default: table on a terminal, else jsonl.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The connector's name.")]


def form_of(ctx: typer.Context, given: OutputFormat | None) -> OutputFormat:
    """The form that was asked for, also before the command's name."""
    return choose_format(given or getattr(ctx.obj, "output", None))


def control(state: Path, use: Callable[[ControlClient], Awaitable[_T]]) -> _T:
    """Ask the process that runs in that directory. Raises CommandFailed."""
    from connectors.runtime.control_client import ControlClient, ControlFailed

    async def asked() -> _T:
        try:
            async with ControlClient(state) as client:
                return await use(client)
        except ControlFailed as failed:
            raise CommandFailed(str(failed), _code(failed.status)) from None

    return asyncio.run(asked())


def _code(status: int | None) -> ExitCode:
    if status is None:
        return ExitCode.UNAVAILABLE
    return ExitCode.REFUSED if status < 500 else ExitCode.FAILED


def summary(status: ConnectorStatus) -> dict[str, object]:
    """One connector in a line."""
    return {
        "name": status.name,
        "plugin": status.plugin,
        "topic": status.topic,
        "state": str(status.state),
        "wanted": str(status.wanted),
        "tasks": len(status.tasks),
        "cause": status.cause,
    }


SUMMARY = ("name", "plugin", "topic", "state", "wanted", "tasks", "cause")
