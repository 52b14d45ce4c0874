"""Puts the commands together and runs them: every error becomes one line and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import typer

from broker.cli.audit import audit
from broker.cli.catalog import catalog
from broker.cli.command import example, remember
from broker.cli.demonstrate import demo
from broker.cli.explain import explain
from broker.cli.identity import can_i, whoami
from broker.cli.initialise import init
from broker.cli.publish import publish
from broker.cli.rulebook import rulebook
from broker.cli.serve import serve
from broker.cli.subscribe import subscribe
from broker.cli.subscriptions import subscription
from broker.cli.suspend import suspend
from broker.cli.suspension import suspension
from broker.cli.tokens import token
from broker.cli.withdraw import withdraw
from broker.cli.witness import witness
from connectors.cli.failures import CommandFailed, ExitCode, complain

app = typer.Typer(
    name="entente",
    help="Share records between agencies; policies decide who receives what.",
    epilog=example("entente demo"),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.callback()(remember)
for _name, _command, _example in (
    ("init", init, "entente init exchange --listen 127.0.0.1:7443"),
    ("serve", serve, "entente serve --config exchange/entente.toml"),
    (
        "token",
        token,
        "entente token --agency ems --role paramedic --purpose emergency-response --clearance red",
    ),
    ("whoami", whoami, "entente whoami --context ems"),
    ("can-i", can_i, "entente can-i subscribe crash-reports --purpose emergency-response --context ems"),
    (
        "publish",
        publish,
        "entente publish vulnerabilities --type gov.cisa.kev.v1 --label dataclassification=clear"
        " --records '$.vulnerabilities' --id '$.cveID' --subject '$.cveID' --context cyber-centre"
        " broker/demo/data/cisa-kev.json",
    ),
    (
        "subscribe",
        subscribe,
        "entente subscribe crash-reports --purpose emergency-response --subscription intake --idle-timeout 5"
        " --context ems",
    ),
    ("suspend", suspend, "entente suspend agency ems --reason 'stolen key' --for 24h --context admin-1"),
    (
        "withdraw",
        withdraw,
        "entente withdraw //highway-patrol/crashes 2026-0117 --reason 'wrong person' --context highway-patrol-admin",
    ),
    (
        "explain",
        explain,
        "entente explain --agency transport --purpose road-safety --topic crash-reports --owner highway-patrol"
        " --type gov.niem.crash-driver.v1 --label dataclassification=red --context highway-patrol-admin",
    ),
    ("demo", demo, "entente demo"),
):
    app.command(_name, epilog=example(_example))(_command)
app.add_typer(audit)
app.add_typer(rulebook)
app.add_typer(catalog)
app.add_typer(subscription)
app.add_typer(suspension)
app.add_typer(witness)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing but one line is ever shown of an error."""
    try:
        result = typer.main.get_command(app).main(
            args=list(arguments) or ["--help"], prog_name="entente", standalone_mode=False
        )
        return result if isinstance(result, int) else ExitCode.DONE
    except CommandFailed as failed:
        complain(str(failed))
        return failed.code
    except typer.TyperException as error:
        complain(_usage(error))
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: a line instead of a traceback
        complain(f"unexpected {type(error).__name__} at {_origin(error)}; please report it")
        return ExitCode.FAILED


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the arguments, and where it is explained."""
    context = getattr(error, "ctx", None)
    command = "entente" if context is None else context.command_path
    # typer's own checks of choices come through pydantic, which puts this before them
    problem = error.format_message().replace("Value error, ", "")
    return f"{problem} (see '{command} --help')"


def _origin(error: Exception) -> str:
    """Where it was raised. Not its message, which may quote a record or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
