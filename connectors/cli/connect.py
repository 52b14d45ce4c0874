"""`entente connect`: connectors run, are watched, steered and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from connectors.cli.control import (
    STATE_DIRECTORY,
    SUMMARY,
    Name,
    Output,
    State,
    control,
    form_of,
    summary,
)
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.offsets import offsets
from connectors.cli.output import OutputFormat, show_all, show_one, write_line
from connectors.cli.program import example
from connectors.cli.redriving import redrive
from connectors.cli.templates import TEMPLATES, template
from connectors.cli.watching import status

if TYPE_CHECKING:
    from connectors.runtime.configuration import Configured
    from connectors.runtime.run import Ready

connect = typer.Typer(
    name="connect",
    help="Connectors move records between the exchange and an agency's own systems.",
    epilog=example("entente connect run crashes.toml --state /var/lib/entente-connect"),
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Configuration files, TOML.")]
_CHECK_S = 60.0


@connect.command("new", epilog=example("entente connect new kafka-source crashes > crashes.toml"))
def new(
    plugin: Annotated[str, typer.Argument(metavar="|".join(TEMPLATES), help="The kind of connector.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: the kind.")] = None,
) -> None:
    """Print a configuration to begin with; what you have to change is marked."""
    from connectors.runtime.definition import NAME_PATTERN

    if plugin not in TEMPLATES:
        message = f"no template for '{plugin}'; there is one for each of: {', '.join(TEMPLATES)}"
        raise CommandFailed(message, ExitCode.USAGE)
    chosen = plugin if name is None else name
    if NAME_PATTERN.fullmatch(chosen) is None:
        message = "a connector's name is 1 to 63 letters, digits, - and _, with a letter or digit first"
        raise CommandFailed(message, ExitCode.USAGE)
    write_line(template(plugin, chosen).rstrip("\n"))


@connect.command("validate", epilog=example("entente connect validate crashes.toml intake.toml --connect"))
def validate(
    ctx: typer.Context,
    files: Files,
    reach_out: Annotated[
        bool, typer.Option("--connect", help="Ask the exchange and the agency's own systems too.")
    ] = False,
    output: Output = None,
) -> None:
    """Check configuration files; each finding is a line with file, key and remedy. Changes nothing anywhere."""
    configured = _read(files)
    if reach_out and (findings := asyncio.run(_check(configured))):
        _refuse(findings, ExitCode.FAULTS_FOUND)
    results = [
        {
            "name": each.definition.name,
            "plugin": each.definition.settings.plugin,
            "topic": each.definition.settings.topic,
            "file": str(each.file),
            "checked": "configuration and connections" if reach_out else "configuration",
        }
        for each in configured
    ]
    show_all(form_of(ctx, output), ("name", "plugin", "topic", "file", "checked"), results)


@connect.command(
    "run", epilog=example("entente connect run crashes.toml intake.toml --metrics 127.0.0.1:9400")
)
def run(
    ctx: typer.Context,
    files: Files,
    state: State = STATE_DIRECTORY,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus metrics; HOST is 127.0.0.1 unless said."),
    ] = None,
    output: Output = None,
) -> None:
    """Run connectors until SIGTERM or Ctrl-C, then finish what is begun. Says when it is ready; logs to standard error."""
    from connectors.cli.logs import log_to_stderr
    from connectors.runtime.directory import StateDirectoryRefused
    from connectors.runtime.run import serve
    from connectors.runtime.settings import ConfigurationRefused

    address = None if metrics is None else _address(metrics)
    form = form_of(ctx, output)
    configured = _read(files)
    log_to_stderr()
    _warn(configured)
    try:
        drained = serve(
            [each.definition for each in configured], state, address, lambda ready: _announce(form, ready)
        )
    except ConfigurationRefused as refused:
        _refuse(refused.findings, ExitCode.USAGE)
    except StateDirectoryRefused as refused:
        raise CommandFailed(str(refused)) from None
    except OSError as error:
        what = f"{error.filename or 'connect run'}: {error.strerror or type(error).__name__}"
        remedy = "choose another address with --metrics, or another directory with --state"
        raise CommandFailed(f"{what}; {remedy}") from None
    if not drained:
        raise CommandFailed(
            "not everything finished in time; what was not acknowledged comes again", ExitCode.INCOMPLETE
        )


@connect.command("list", epilog=example("entente connect list -o table"))
def list_all(ctx: typer.Context, state: State = STATE_DIRECTORY, output: Output = None) -> None:
    """The connectors of the running process, with their states."""
    found = control(state, lambda client: client.connectors())
    show_all(form_of(ctx, output), SUMMARY, [summary(each) for each in found])


@connect.command("pause", epilog=example("entente connect pause crashes"))
def pause(ctx: typer.Context, name: Name, state: State = STATE_DIRECTORY, output: Output = None) -> None:
    """Take up nothing new, but keep its places (consumer group, stream); holds until 'resume', over restarts too."""
    show_one(form_of(ctx, output), summary(control(state, lambda client: client.pause(name))))


@connect.command("resume", epilog=example("entente connect resume crashes"))
def resume(ctx: typer.Context, name: Name, state: State = STATE_DIRECTORY, output: Output = None) -> None:
    """Work again, after 'pause' or 'stop'."""
    show_one(form_of(ctx, output), summary(control(state, lambda client: client.resume(name))))


@connect.command("stop", epilog=example("entente connect stop crashes"))
def stop(ctx: typer.Context, name: Name, state: State = STATE_DIRECTORY, output: Output = None) -> None:
    """Finish what is begun and give up its places; holds until 'resume', over restarts too."""
    show_one(form_of(ctx, output), summary(control(state, lambda client: client.stop(name))))


@connect.command("restart", epilog=example("entente connect restart crashes --task 1"))
def restart(
    ctx: typer.Context,
    name: Name,
    task: Annotated[int | None, typer.Option(min=0, help="Only this one; counted from 0.")] = None,
    state: State = STATE_DIRECTORY,
    output: Output = None,
) -> None:
    """End its tasks and start them anew; failed ones start at once."""
    show_one(form_of(ctx, output), summary(control(state, lambda client: client.restart(name, task))))


connect.command("status", epilog=example("entente connect status --watch"))(status)
connect.command("redrive", epilog=example("entente connect redrive crashes --max 100"))(redrive)
connect.add_typer(offsets)


def _read(files: Sequence[Path]) -> tuple[Configured, ...]:
    from connectors.runtime.configuration import read_configuration
    from connectors.runtime.settings import ConfigurationRefused

    try:
        return read_configuration(files)
    except ConfigurationRefused as refused:
        _refuse(refused.findings, ExitCode.USAGE)


def _refuse(findings: Sequence[str], code: ExitCode) -> NoReturn:
    """Each on its line; the last one ends the command."""
    for finding in findings[:-1]:
        complain(finding)
    raise CommandFailed(findings[-1], code)


async def _check(configured: Iterable[Configured]) -> list[str]:
    return [each.place(finding) for each in configured for finding in await _findings(each)]


async def _findings(configured: Configured) -> Sequence[str]:
    from connectors.runtime.causes import failure_of
    from connectors.runtime.exchange import make_client

    definition = configured.definition
    connector = definition.plugin.make(definition.name, definition.settings, configured.file.parent)
    try:
        async with asyncio.timeout(_CHECK_S):
            async with make_client(definition.settings) as client:
                return await connector.check(client)
    except TimeoutError:
        return (f"no answer within {_CHECK_S:.0f} s; check that both sides can be reached from here",)
    except Exception as error:  # noqa: BLE001 - what a plugin raises becomes one line
        return (failure_of(error).cause,)


def _address(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise CommandFailed("--metrics: write it as PORT or HOST:PORT", ExitCode.USAGE)
    return host.strip("[]") or "127.0.0.1", int(port)


def _warn(configured: Iterable[Configured]) -> None:
    """Of every choice that gives up security."""
    for each in configured:
        settings = each.definition.settings.model_dump()
        for key in _insecure(settings, ()):
            complain(f"warning: {each.place(f'{key} = true: others may read or change what is sent')}")


def _insecure(table: dict[str, object], above: tuple[str, ...]) -> Iterable[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _insecure(value, (*above, key))
        elif key.startswith("insecure_") and value is True:
            yield ".".join((*above, key))


def _announce(form: OutputFormat, ready: Ready) -> None:
    metrics = None if ready.metrics is None else f"{ready.metrics[0]}:{ready.metrics[1]}"
    if form is OutputFormat.TABLE:
        served = "" if metrics is None else f", metrics on {metrics}"
        write_line(f"ready: {', '.join(ready.connectors)}; control {ready.control}{served}")
        return
    result = {
        "ready": True,
        "connectors": list(ready.connectors),
        "control": str(ready.control),
        "metrics": metrics,
    }
    show_one(OutputFormat.JSONL, result)  # one line also as json: a program waits for it on a pipe
