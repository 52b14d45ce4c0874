"""`entente rulebook`: changing the rulebook, as a directory under any editor and any version control."""

from __future__ import annotations

import typer

from broker.cli.rulebook.activate import activate
from broker.cli.rulebook.approve import approve, reject
from broker.cli.rulebook.check import check
from broker.cli.rulebook.diff import diff
from broker.cli.rulebook.looks import log, show, status
from broker.cli.rulebook.new import new
from broker.cli.rulebook.propose import propose, rollback
from broker.cli.rulebook.pull import pull
from broker.cli.rulebook.simulate import simulate
from broker.cli.rulebook.tests import test
from connectors.cli.program import example

rulebook = typer.Typer(
    name="rulebook",
    help="Check and change the rulebook: new, check, test and simulate need no exchange that runs.",
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
    ("pull", pull, "entente rulebook pull proposed --context admin-1"),
    (
        "propose",
        propose,
        "entente rulebook propose proposed --message 'ems may see plates' --context admin-1",
    ),
    ("show", show, "entente rulebook show 4f0c1d22aa --context admin-2"),
    (
        "approve",
        approve,
        "entente rulebook approve 4f0c1d22aa --revision sha256:9f86d081884c --context admin-2",
    ),
    ("reject", reject, "entente rulebook reject 4f0c1d22aa --reason 'not agreed' --context admin-2"),
    ("activate", activate, "entente rulebook activate 4f0c1d22aa --context admin-1"),
    ("rollback", rollback, "entente rulebook rollback --message 'plates leaked' --context admin-1"),
    ("status", status, "entente rulebook status --context admin-1"),
    ("log", log, "entente rulebook log --context admin-1"),
):
    rulebook.command(_name, epilog=example(_example))(_command)
