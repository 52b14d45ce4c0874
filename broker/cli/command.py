"""What all commands share: the common options, the running of coroutines, and the translation of errors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from broker.cli.settings import Given, resolve
from connectors.cli.failures import CommandFailed, ExitCode, from_client
from connectors.cli.output import OutputFormat
from connectors.cli.program import discard_output

if TYPE_CHECKING:
    from connectors.client import Client

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PANEL = "Common options"


def _shared(
    output: Annotated[
        OutputFormat | None,
        typer.Option(
            "--output", "-o", help="Default: table on a terminal, else jsonl.", rich_help_panel=_PANEL
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Default: ENTENTE_CONFIG, else ./entente.toml.", rich_help_panel=_PANEL
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option("--context", help="A context of the configuration file.", rich_help_panel=_PANEL),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="HOST:PORT; beats ENTENTE_ENDPOINT.", rich_help_panel=_PANEL),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="Beats ENTENTE_TOKEN and ENTENTE_TOKEN_FILE.", rich_help_panel=_PANEL
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", help="The exchange's CA, PEM; beats ENTENTE_CA_FILE.", rich_help_panel=_PANEL
        ),
    ] = None,
) -> None:
    """Only its signature is used."""


_SHARED = [
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(_shared, eval_str=True).parameters.values()
]
_CONTEXT = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def shared_options(function: Callable[Concatenate[Given, _P], None]) -> Callable[..., None]:
    """Give a command the common options, also where they stand before its name; it receives them as a Given."""

    def command(*, ctx: typer.Context, **values: Any) -> None:
        given = Given(**{parameter.name: values.pop(parameter.name) for parameter in _SHARED})
        if isinstance(ctx.obj, Given):
            given = given.over(ctx.obj)
        try:
            function(given, **values)  # type: ignore[call-arg]
        except BrokenPipeError:
            discard_output()
            raise typer.Exit(ExitCode.DONE) from None

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([_CONTEXT, *own, *_SHARED])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def remember(ctx: typer.Context, **values: Any) -> None:
    """Keep the common options that stand before the command's name."""
    ctx.obj = Given(**values)


remember.__signature__ = inspect.Signature([_CONTEXT, *_SHARED])  # type: ignore[attr-defined]
remember.__annotations__ = {}


def call(given: Given, use: Callable[[Client], Awaitable[_T]]) -> _T:
    """Open the client that the settings describe and use it. Raises CommandFailed."""
    connection = resolve(given)

    async def connected() -> _T:
        from connectors.errors import EntenteClientError

        try:
            async with connection.client() as client:
                return await use(client)
        except EntenteClientError as error:
            raise from_client(error) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandFailed(f"{error.filename or 'a file'}: {error.strerror}") from None

    return asyncio.run(connected())
