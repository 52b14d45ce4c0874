"""`entente audit`: what can be found out from the ledger, with or without the exchange."""

from __future__ import annotations

import typer

from broker.cli.audit.check import check
from broker.cli.audit.check_receipts import check_receipts
from broker.cli.audit.checkpoint import checkpoint
from broker.cli.audit.entries import entries
from broker.cli.audit.export import export
from broker.cli.audit.prove import prove
from broker.cli.audit.records import records
from broker.cli.audit.replay import replay
from broker.cli.audit.verify import verify
from broker.cli.audit.what_saw import what_saw
from broker.cli.audit.who_saw import who_saw
from connectors.cli.program import example

audit = typer.Typer(
    name="audit",
    help="What the ledger says, and whether it is what it was.",
    epilog=example("entente audit verify --ledger march --public-key ledger.vkey --after witnessed.note"),
)
_RECORD = "//highway-patrol/crash C-2026-0042"
for _name, _command, _example in (
    (
        "export",
        export,
        "entente audit export --ledger exchange/data --since 2026-03-01 --until 2026-03-31 --out march",
    ),
    (
        "verify",
        verify,
        "entente audit verify --ledger march --public-key ledger.vkey --after witnessed.note",
    ),
    ("checkpoint", checkpoint, "entente audit checkpoint --context ems --keep checkpoints.jsonl"),
    (
        "entries",
        entries,
        "entente audit entries --ledger march --kind call_refused --since 2026-03-01 --agency ems -o table",
    ),
    ("replay", replay, "entente audit replay --ledger march"),
    ("who-saw", who_saw, f"entente audit who-saw --ledger march {_RECORD} --html who-saw.html"),
    ("what-saw", what_saw, "entente audit what-saw --ledger march ems --topic crash-reports"),
    ("prove", prove, "entente audit prove broker/12 --ledger march --subject medic-7 --out proof.json"),
    ("check", check, "entente audit check proof.json --public-key ledger.vkey"),
    (
        "check-receipts",
        check_receipts,
        "entente audit check-receipts --ledger march receipts.jsonl --receipt-keys receipt.keys",
    ),
    (
        "records",
        records,
        "entente audit records --topic crash-reports --from 2026-03-01 --as ems --role paramedic"
        " --purpose emergency-response --clearance red --context auditor-1",
    ),
):
    audit.command(_name, epilog=example(_example))(_command)
