"""`entente connect offsets`: how far a connector has come, and where it is to go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.cli.control import STATE_DIRECTORY, Name, Output, State, control, form_of
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, show_all
from connectors.cli.program import example

if TYPE_CHECKING:
    from connectors.runtime.control_client import ControlClient
    from connectors.runtime.model import Offset

offsets = typer.Typer(
    name="offsets",
    help="How far a connector has come, and where it is to go on.",
    epilog=example("entente connect offsets show crashes"),
)
Field = Mapping[str, str | int]
FILE_BYTES = 16 * 1024 * 1024
"""The largest file of offsets that is read."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: a file's offsets, or one offset for the named partitions (none named: all)."""

    partitions: Sequence[str]
    offset: str | None
    file: Path | None
    reset: bool


@offsets.command("show", epilog=example("entente connect offsets show crashes -o json > offsets.json"))
def show(ctx: typer.Context, name: Name, state: State = STATE_DIRECTORY, output: Output = None) -> None:
    """How far it has come in each partition of what it reads; 'alter --file' takes what '-o json' prints."""
    _show(form_of(ctx, output), control(state, lambda client: client.offsets(name)))


@offsets.command(
    "alter",
    epilog=example("entente connect offsets alter crashes --partition partition=0 --offset 4200 --yes"),
)
def alter(
    ctx: typer.Context,
    name: Name,
    partition: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,...", help="A partition as 'show' names it; default: all."),
    ] = None,
    offset: Annotated[
        str | None,
        typer.Option(metavar="NUMBER|KEY=VALUE", help="Where it goes on, such as 42 or from=latest."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A JSON array of partition and offset.")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget them: begin as the configuration says.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state: State = STATE_DIRECTORY,
    output: Output = None,
) -> None:
    """Go on from elsewhere. Shows what changes and asks. Only while the connector is stopped.

    Going back publishes or writes records again, going forward leaves records out: neither is undone by altering back.
    """
    wish = Wish(partition or (), offset, file, reset)
    if sum((offset is not None, file is not None, reset)) != 1 or (file is not None and partition):
        raise CommandFailed("give one of --offset, --file (without --partition) and --reset", ExitCode.USAGE)
    before, after = control(state, lambda client: _planned(client, name, wish))
    _tell(before, after)
    if not yes:
        _ask()
    _show(form_of(ctx, output), control(state, lambda client: client.alter_offsets(name, after)))


async def _planned(client: ControlClient, name: str, wish: Wish) -> tuple[list[Offset], list[Offset]]:
    """How far it has come, and what the wish makes of it."""
    from connectors.runtime.model import State as Known

    found = (await client.status(name)).state
    if found is not Known.STOPPED:
        message = f"{name}: is {found}; stop it first: 'entente connect stop {name}'"
        raise CommandFailed(message, ExitCode.REFUSED)
    before = await client.offsets(name)
    after = _of_file(wish.file) if wish.file is not None else _chosen(before, wish)
    if not after:
        raise CommandFailed(f"{name}: there are no offsets to alter", ExitCode.REFUSED)
    return before, after


def _chosen(before: Sequence[Offset], wish: Wish) -> list[Offset]:
    from connectors.runtime.model import Offset

    offset = None if wish.offset is None else _offset(wish.offset)
    if not wish.partitions:
        return [Offset(each.partition, offset) for each in before]
    return [Offset(partition, offset) for text in wish.partitions for partition in _partitions(before, text)]


def _partitions(before: Sequence[Offset], text: str) -> list[Field]:
    """Those that have all the fields; as it is written if none has."""
    wanted = _fields("--partition", text)
    found = [each.partition for each in before if _has(each.partition, wanted)]
    return found or [wanted]


def _has(partition: Field, wanted: Field) -> bool:
    return all(key in partition and str(partition[key]) == str(value) for key, value in wanted.items())


def _offset(text: str) -> Field:
    return {"offset": int(text)} if text.isascii() and text.isdigit() else _fields("--offset", text)


def _fields(option: str, text: str) -> Field:
    """KEY=VALUE,..., of which a value of digits is a number; or the JSON object that `show` prints."""
    if text.startswith("{"):
        found = _json_object(text)
    else:
        pairs = [part.partition("=") for part in text.split(",")]
        found = {key: int(value) if value.isascii() and value.isdigit() else value for key, _, value in pairs}
    if not found or not all(key and value != "" for key, value in found.items()):
        message = f"{option}: write it as KEY=VALUE, several with commas between, or as 'show' prints it"
        raise CommandFailed(message, ExitCode.USAGE)
    return found


def _json_object(text: str) -> Field:
    """Nothing if it is none, or holds anything but texts and numbers."""
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if all(type(value) in (str, int) for value in found.values()) else {}


def _of_file(path: Path) -> list[Offset]:
    """What `show -o json` prints, or the same under "offsets"."""
    from pydantic import TypeAdapter, ValidationError

    from connectors.runtime.model import Offset

    try:
        with path.open("rb") as file:
            content: Any = json.loads(file.read(FILE_BYTES))
        listed = content["offsets"] if isinstance(content, dict) else content
        return TypeAdapter(list[Offset]).validate_python(listed)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}; correct the path", ExitCode.USAGE) from None
    except (ValueError, KeyError, RecursionError, ValidationError):
        form = '[{"partition": {…}, "offset": {…}}, …]'
        message = (
            f"{path}: is no JSON array {form}; make one with 'entente connect offsets show NAME -o json'"
        )
        raise CommandFailed(message, ExitCode.USAGE) from None


def _tell(before: Sequence[Offset], after: Sequence[Offset]) -> None:
    """What changes, on standard error."""
    was = {_text(each.partition): each.offset for each in before}
    for each in after:
        partition = _text(each.partition)
        typer.echo(f"{partition}: {_text(was.get(partition))} -> {_text(each.offset)}", err=True)


def _ask() -> None:
    """Raises Abort."""
    if not sys.stdin.isatty():
        raise CommandFailed("nobody can be asked here; say --yes", ExitCode.USAGE)
    typer.confirm("Change them?", abort=True, err=True)


def _text(field: Field | None) -> str:
    from connectors.cli.text import printable

    return "none" if field is None else printable(",".join(f"{key}={value}" for key, value in field.items()))


def _show(form: OutputFormat, found: Sequence[Offset]) -> None:
    if form is OutputFormat.TABLE:
        rows: list[dict[str, object]] = [
            {"partition": _text(each.partition), "offset": _text(each.offset)} for each in found
        ]
    else:
        rows = [
            {"partition": dict(each.partition), "offset": None if each.offset is None else dict(each.offset)}
            for each in found
        ]
    show_all(form, ("partition", "offset"), rows)
