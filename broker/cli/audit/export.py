"""`entente audit export`: all that auditing needs, in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run
from broker.cli.audit.times import format_ms, parse_since, parse_until
from broker.cli.audit.trusting import read_public_keys
from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import complain
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one

if TYPE_CHECKING:
    from broker.adapters.export.writer import Exported
    from broker.app.ledger_sources import LedgerSource
    from broker.core.checkpoint.note import VerifierKey


@shared_options
@ledger_options
def export(
    given: Given,
    ledger: LedgerGiven,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A directory that is absent or empty.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME|DATE", help="RFC 3339, or a date: from its beginning in UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME|DATE", help="RFC 3339, or a date: to its end in UTC.")
    ] = None,
    public_key: Annotated[
        list[Path] | None, typer.Option(help="The exchange's ledger.vkey, to lie beside the entries.")
    ] = None,
) -> None:
    """Export entries, checkpoints and the rulebook's revisions that were used, with a SQLite file to ask questions of.

    The export holds who received what: keep it as confidential as the ledger. It is written whole or not at all.
    """
    bounds = parse_since(since, "--since"), parse_until(until, "--until")
    keys = read_public_keys(public_key or (), "--public-key")
    done = run(_export(source_of(given, ledger), out, keys, *bounds))
    _show(choose_format(given.output), done, out)
    for revision in done.missing:
        complain(f"the revision {revision} is not in the export: replay needs it; name it with --revisions")


async def _export(
    source: LedgerSource, out: Path, keys: tuple[VerifierKey, ...], since_ms: int | None, until_ms: int | None
) -> Exported:
    from broker.adapters.export.writer import ExportRequest, write_export
    from broker.app.ledger_sources import exchange_of, opened_source

    async with opened_source(source) as opened:
        exchange = await exchange_of(opened)
        request = ExportRequest(out, exchange, keys, since_ms, until_ms)
        with shown_progress() as progress:
            return await write_export(request, opened.reader, opened.rulebooks, progress)


def _show(form: OutputFormat, done: Exported, out: Path) -> None:
    instances: list[dict[str, object]] = [
        {
            "instance": each.instance,
            "begin": each.begin,
            "end": each.end,
            "first": None if each.first_ms is None else format_ms(each.first_ms),
            "last": None if each.last_ms is None else format_ms(each.last_ms),
        }
        for each in done.coverage
    ]
    if form is OutputFormat.TABLE:
        show_all(form, ("instance", "begin", "end", "first", "last"), instances)
        return
    written: dict[str, object] = {"directory": str(out), "instances": instances}
    show_one(form, written | {"revisions": list(done.revisions), "missing": list(done.missing)})
