"""`entente connect status`: what each connector and task does, once or as a page that keeps up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.cli.control import STATE_DIRECTORY, Output, State, control, form_of
from connectors.cli.output import OutputFormat, show_all

if TYPE_CHECKING:
    from connectors.runtime.control_client import ControlClient
    from connectors.runtime.status import ConnectorStatus

_INTERVAL_S = 1.0


def status(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this connector.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep up until Ctrl-C; only on a terminal.")
    ] = False,
    state: State = STATE_DIRECTORY,
    output: Output = None,
) -> None:
    """States of connectors and tasks, what they moved, how far behind they are, and why something failed."""
    form = form_of(ctx, output)
    if watch and form is OutputFormat.TABLE and _can_redraw():
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(state, name))
        return
    found = control(state, lambda client: _statuses(client, name))
    if form is OutputFormat.TABLE:
        from rich.console import Console

        from connectors.cli.status_page import page

        Console().print(page(found, None, time.time()))
        sys.stdout.flush()
    else:
        show_all(form, (), [_shown(each) for each in found])


def _can_redraw() -> bool:
    from rich.console import Console

    return sys.stdout.isatty() and not Console().is_dumb_terminal


async def _statuses(client: ControlClient, name: str | None) -> list[ConnectorStatus]:
    return await client.connectors() if name is None else [await client.status(name)]


async def _watch(state: Path, name: str | None) -> None:
    """A process that ends is waited for: it may be starting again."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from connectors.cli.status_page import Rates, page
    from connectors.cli.text import one_line
    from connectors.runtime.control_client import ControlClient, ControlFailed

    rates = Rates()
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            try:
                async with ControlClient(state) as client:
                    found = await _statuses(client, name)
                live.update(page(found, rates.of(found, time.monotonic()), time.time()), refresh=True)
            except ControlFailed as failed:
                live.update(Group(Text(one_line(str(failed)), style="red")), refresh=True)
            await asyncio.sleep(_INTERVAL_S)


def _shown(found: ConnectorStatus) -> dict[str, object]:
    """As the control socket tells it, with the sums of all tasks."""
    from pydantic import TypeAdapter

    from connectors.runtime.progress import Progress
    from connectors.runtime.status import ConnectorStatus

    told: dict[str, object] = TypeAdapter(ConnectorStatus).dump_python(found, mode="json")
    return {**told, "total": TypeAdapter(Progress).dump_python(found.total, mode="json")}
