"""`entente witness`: a service that keeps other people's checkpoints and cosigns them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line
from connectors.cli.program import example

if TYPE_CHECKING:
    from broker.app.witness_config import WitnessConfig
    from broker.app.witness_server import WitnessReady

DEFAULT_CONFIG = Path("witness.toml")
_COLUMNS = ("origin", "size", "root", "since", "misfits")

witness = typer.Typer(
    name="witness",
    help="Keep the checkpoints of somebody else's ledger, and cosign them.",
    epilog=example("entente witness show --config w1/witness.toml"),
)


@witness.command(
    "init",
    epilog=example(
        "entente witness init w1 --name witness.example/w1 --trust development/broker=exchange/keys/ledger.vkey"
    ),
)
@shared_options
def init(
    given: Given,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    name: Annotated[str, typer.Option(help="What stands in its cosignatures, like witness.example/w1.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT.")] = "127.0.0.1:7447",
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN=FILE", help="A log and its ledger.vkey; may be repeated."),
    ] = None,
) -> None:
    """Make a ready witness: a key, a certificate, and a configuration with the logs that it trusts."""
    from broker.app.new_directory import InitialiseRefused
    from broker.app.witness_setup import initialise_witness

    try:
        made = initialise_witness(directory, name, listen, [_trusted(each) for each in trust or []])
    except InitialiseRefused as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None
    result = {
        "directory": str(made.directory),
        "config": str(made.config),
        "address": made.address,
        "vkey": made.vkey,
        "origins": list(made.origins),
    }
    show_one(choose_format(given.output), result)


@witness.command("serve", epilog=example("entente witness serve --config w1/witness.toml"))
@shared_options
def serve(given: Given) -> None:
    """Serve until SIGTERM or Ctrl-C. Says when it is ready and where."""
    import asyncio
    import logging

    from broker.app.witness_server import serve_witness

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Whatever strangers send that is not HTTP would otherwise be a traceback each.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    form = choose_format(given.output)
    with _failures():
        config = _config(given)
        asyncio.run(serve_witness(config, ready=lambda ready: _announce(form, ready)))


@witness.command("show", epilog=example("entente witness show --config w1/witness.toml"))
@shared_options
def show(given: Given) -> None:
    """What the witness holds of each log: the newest checkpoint, since when, and how much evidence of misfits."""
    from broker.app.witness_server import holdings

    with _failures():
        held = holdings(_config(given))
    rows = [
        {
            "origin": each.origin,
            "size": each.size,
            "root": None if each.root is None else base64.b64encode(each.root).decode(),
            "since": None if each.since_ms is None else _time(each.since_ms),
            "misfits": each.misfits,
        }
        for each in held
    ]
    show_all(choose_format(given.output), _COLUMNS, rows)


@witness.command(
    "checkpoint",
    epilog=example("entente witness checkpoint development/broker --config w1/witness.toml"),
)
@shared_options
def checkpoint(
    given: Given, origin: Annotated[str, typer.Argument(metavar="ORIGIN", help="A log of the configuration.")]
) -> None:
    """Print the newest checkpoint of a log with the witness's cosignature, for an auditor to verify the log after."""
    from broker.app.witness_server import cosigned_checkpoint
    from broker.core.witness.cosigning import OriginUnknown

    with _failures():
        try:
            note = cosigned_checkpoint(_config(given), origin)
        except OriginUnknown:
            message = "is no origin of the configuration; see 'entente witness show'"
            raise CommandFailed(f"{origin}: {message}", ExitCode.USAGE) from None
    if note is None:
        raise CommandFailed(f"{origin}: nothing is held of this log yet")
    if given.output in (None, OutputFormat.TABLE):
        write_line(note.decode().removesuffix("\n"))  # bare, for > witnessed.note
    else:
        show_one(OutputFormat(given.output), {"origin": origin, "note": note.decode()})


def _config(given: Given) -> WitnessConfig:
    from broker.app.witness_config import load_witness_config

    return load_witness_config(given.config or DEFAULT_CONFIG)


@contextmanager
def _failures() -> Iterator[None]:
    """What may go wrong, as a line and an exit code."""
    from broker.adapters.keyring import KeysRefused
    from broker.app.config import ConfigError
    from broker.errors import StorageUnavailable

    try:
        yield
    except ConfigError as error:
        raise CommandFailed("; ".join(error.findings), ExitCode.USAGE) from None
    except (KeysRefused, StorageUnavailable) as error:
        raise CommandFailed(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"{error.filename or 'witness'}: {error.strerror or error}") from None


def _announce(form: OutputFormat, ready: WitnessReady) -> None:
    if form is OutputFormat.TABLE:
        write_line(f"ready on {ready.address} as {ready.name}, for {ready.logs} logs; vkey {ready.vkey}")
        return
    result = {
        "ready": True,
        "address": ready.address,
        "name": ready.name,
        "vkey": ready.vkey,
        "logs": ready.logs,
    }
    show_one(OutputFormat.JSONL, result)  # one line also as json: a program waits for it on a pipe


def _trusted(given: str) -> tuple[str, Path]:
    origin, equals, file = given.partition("=")
    if not (origin and equals and file):
        raise CommandFailed(
            "--trust is ORIGIN=FILE, for example development/broker=exchange/keys/ledger.vkey", ExitCode.USAGE
        )
    return origin, Path(file)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
