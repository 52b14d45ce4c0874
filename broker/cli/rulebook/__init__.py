"""`entente rulebook`: changing the rulebook, as a directory under any editor and any version control."""

from __future__ import annotations

import typer

from broker.cli.command import example
from broker.cli.rulebook.check import check
from broker.cli.rulebook.diff import diff
from broker.cli.rulebook.new import new
from broker.cli.rulebook.simulate import simulate
from broker.cli.rulebook.tests import test

rulebook = typer.Typer(
    name="rulebook",
    help="Check and change a rulebook, which needs no exchange that runs.",
    epilog=example("entente rulebook check exchange/rulebook"),
)
for _name, _command, _example in (
    ("new", new, "entente rulebook new road-works --into exchange/rulebook"),
    ("check", check, "entente rulebook check exchange/rulebook"),
    ("test", test, "entente rulebook test exchange/rulebook"),
    ("diff", diff, "entente rulebook diff exchange/rulebook proposed"),
    (
        "simulate",
        simulate,
        "entente rulebook simulate proposed --against exchange/rulebook --ledger exchange/data --since 7d"
        " --html simulation.html",
    ),
):
    rulebook.command(_name, epilog=example(_example))(_command)
