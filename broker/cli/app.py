"""Puts the commands together and runs them: every error becomes one line and an exit code."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from broker.cli.audit import audit
from broker.cli.catalog import catalog
from broker.cli.command import remember
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
from connectors.cli.connect import connect
from connectors.cli.program import example, run_program

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
app.add_typer(connect)
app.add_typer(rulebook)
app.add_typer(catalog)
app.add_typer(subscription)
app.add_typer(suspension)
app.add_typer(witness)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing but one line is ever shown of an error."""
    return run_program(app, "entente", arguments)
