"""`entente serve`: the exchange in the foreground."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cli.command import shared_options
from broker.cli.settings import Given, config_path
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line

if TYPE_CHECKING:
    from broker.app.server import Ready


@shared_options
def serve(given: Given) -> None:
    """Serve an exchange until SIGTERM or Ctrl-C, then drain. Says when it is ready and where."""
    from broker.adapters.keyring import KeysRefused
    from broker.adapters.opa.child import OpaStartFailed
    from broker.app.config import ConfigError, load_config
    from broker.app.server import serve as serve_exchange
    from broker.errors import LedgerRefused, RulebookRefused, StorageUnavailable

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Its connection chatter would bury the exchange's own lines.
    logging.getLogger("kafka").setLevel(logging.WARNING)
    form = choose_format(given.output)
    try:
        config = load_config(config_path(given))
        asyncio.run(serve_exchange(config, ready=lambda ready: _announce(form, ready)))
    except ConfigError as error:
        raise _each_on_its_line("", error.findings, ExitCode.USAGE) from None
    except RulebookRefused as error:
        raise _each_on_its_line("the rulebook was refused: ", error.findings) from None
    except LedgerRefused as error:
        raise _each_on_its_line("the ledger was refused: ", error.findings) from None
    except (StorageUnavailable, KeysRefused, OpaStartFailed) as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or 'serve'}: {error.strerror or error}") from None


def _each_on_its_line(what: str, findings: Sequence[str], code: ExitCode = ExitCode.FAILED) -> CommandFailed:
    """Tells all findings but the last one, and gives that as what ends the command."""
    for finding in findings[:-1]:
        complain(what + finding)
    return CommandFailed(what + (findings[-1] if findings else "no reason was given"), code)


def _announce(form: OutputFormat, ready: Ready) -> None:
    if form is OutputFormat.TABLE:
        mtls = f", with client certificates on {ready.mtls_address}" if ready.mtls_address else ""
        write_line(f"ready on {ready.tls_address}{mtls}; revision {ready.revision}, {ready.engine}")
        return
    result = {
        "ready": True,
        "tls_address": ready.tls_address,
        "mtls_address": ready.mtls_address,
        "revision": ready.revision,
        "engine": ready.engine,
    }
    # One line also as json: a program waits for it on a pipe.
    show_one(OutputFormat.JSONL, result)
