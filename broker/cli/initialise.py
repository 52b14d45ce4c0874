"""`entente init`: a ready exchange for development."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import choose_format, show_one


class BackendName(StrEnum):
    """Where an exchange stores."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


@shared_options
def init(
    given: Given,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; mTLS takes the next port.")] = "127.0.0.1:7443",
    backend: Annotated[BackendName, typer.Option(help="Where to store.")] = BackendName.EMBEDDED,
    kafka: Annotated[str | None, typer.Option(help="HOST:PORT of a Kafka broker.")] = None,
) -> None:
    """Make a ready exchange: configuration, development CA and keys, rulebook, a context per sample principal."""
    from broker.app.initialise import initialise
    from broker.app.new_directory import InitialiseRefused

    try:
        made = initialise(directory, listen, "kafka" if backend is BackendName.KAFKA else "embedded", kafka)
    except InitialiseRefused as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None
    result = {
        "directory": str(made.directory),
        "config": str(made.config),
        "tls_address": made.tls_address,
        "mtls_address": made.mtls_address,
        "backend": made.backend,
        "contexts": list(made.contexts),
    }
    show_one(choose_format(given.output), result)
