"""`entente audit verify`: whether a ledger is what it was."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run
from broker.cli.audit.trusting import trust_of
from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.core.audit.trust import Trust
    from broker.core.audit.verify import Verification
    from broker.model.audit import Finding

_MOST_WORKERS = 8


@shared_options
@ledger_options
def verify(
    given: Given,
    ledger: LedgerGiven,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="The exchange's ledger.vkey, which you had from elsewhere; may be repeated."),
    ] = None,
    after: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="A checkpoint that a witness kept, or a witness's file; may be repeated.",
        ),
    ] = None,
    witness_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Keys of witnesses; then each --after needs a cosignature of one. May be repeated."
        ),
    ] = None,
    instances: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An instance that the exchange has; a fault if it is missing. May be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes; default: one a processor, 8 at most.")
    ] = None,
) -> None:
    """Check trees, signatures, consistency and accounting, and an export's SQLite file against its entries.

    Exits with 0 if nothing is wrong, and says whether that is "verified" or, without a public key and a witnessed
    checkpoint from outside, "internally consistent only"; with 7 if there are faults, the first one's place told first.
    """
    source = source_of(given, ledger)
    trust = trust_of(public_key, after, witness_key, instances)
    found = run(_verify(source, trust, workers or min(os.cpu_count() or 1, _MOST_WORKERS)))
    _show(choose_format(given.output), found)
    for line in _warnings(found, trust):
        complain(line)
    if found.first_fault is not None:
        complain(f"first fault: {found.first_fault.line()}")
    if found.level.value == "faulty":
        raise typer.Exit(ExitCode.FAULTS_FOUND)


async def _verify(source: LedgerSource, trust: Trust, workers: int) -> Verification:
    from broker.adapters.export.tables import SqliteTables
    from broker.app.ledger_sources import opened_source
    from broker.core.audit.verify import verify as verify_ledger

    async with opened_source(source) as opened:
        tables = None if opened.export is None else SqliteTables(opened.export.tables_path)
        with shown_progress() as progress:
            return await verify_ledger(
                opened.reader, trust, tables=tables, workers=workers, progress=progress
            )


def _warnings(found: Verification, trust: Trust) -> list[str]:
    """Why a sound ledger is not verified."""
    from broker.core.audit.verify import Level

    if found.level is not Level.CONSISTENT:
        return []
    missing = []
    if not trust.keys:
        missing.append("the exchange's public key (--public-key)")
    if not trust.after:
        missing.append("a checkpoint that a witness kept (--after)")
    what = " and ".join(missing) or "a checkpoint of each instance that a witness kept (--after)"
    return [
        f"internally consistent only: whoever wrote it may have written all of it anew; verify with {what}"
    ]


def _show(form: OutputFormat, found: Verification) -> None:
    if form is not OutputFormat.TABLE:
        show_one(form, as_object(found))
        return
    write_line(found.summary())
    columns = ("instance", "level", "begin", "end", "checkpoints", "signed", "witnessed", "root")
    show_all(form, columns, _instances(found))
    if found.findings:
        findings = [_finding(each) for each in found.findings]
        show_all(form, ("severity", "instance", "index", "what", "remedy"), findings)
    if found.omitted:
        write_line(f"and {found.omitted} more")


def as_object(found: Verification) -> dict[str, object]:
    """The result as an object."""
    first = found.first_fault
    return {
        "level": found.level.value,
        "summary": found.summary(),
        "entries": found.entries,
        "instances": _instances(found),
        "first_fault": None if first is None else _finding(first),
        "findings": [_finding(each) for each in found.findings],
        "omitted": found.omitted,
    }


def _instances(found: Verification) -> list[dict[str, object]]:
    return [asdict(each) | {"level": each.level.value} for each in found.instances]


def _finding(finding: Finding) -> dict[str, object]:
    return asdict(finding) | {"severity": finding.severity.value}
