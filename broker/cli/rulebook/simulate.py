"""`entente rulebook simulate`: who would gain, lose or see differently what."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run, write_private
from broker.cli.audit.times import parse_since
from broker.cli.command import call, shared_options
from broker.cli.rulebook.opened import OpaOption, refuse_absent
from broker.cli.rulebook.simulated import as_object, from_to, groups_of, lines_of
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line
from connectors.cli.text import one_line

if TYPE_CHECKING:
    from broker.core.simulate.model import Simulation
    from connectors.client import Client

_SPAN = re.compile(r"([0-9]{1,6})([mhd])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_REACH_COLUMNS = ("owner", "consumer", "topic", "recorded", "stored")
_COLUMNS = ("who", "records", "labels", "change", "recorded", "stored")


@shared_options
@ledger_options
def simulate(
    given: Given,
    ledger: LedgerGiven,
    change: Annotated[
        str,
        typer.Argument(
            metavar="DIR|PROPOSAL",
            help="The changed rulebook, a directory or a .tar.gz of its files; or a proposal's id, for the exchange.",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|REVISION",
            help="What it changes: a directory, an archive, or the id of a revision that the ledger's place holds."
            " A proposal is compared with what is in force.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="7d|TIME",
            help="Decisions recorded since then: 90m, 24h, 7d, a date or a time; default: 7d.",
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Instead of --since: so many decisions, the newest ones."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, help="The most combinations that are decided; not for a proposal."
        ),
    ] = 50_000,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to print or hand on, besides.")
    ] = None,
    opa: OpaOption = None,
) -> None:
    """Show what a change would do: who would gain, lose or see differently what, with counts and examples.

    Three things are decided under both rulebooks: what the ledger has recorded, what is still stored, for those who came
    for it or whom an agreement names, and each agency with each kind of record that occurs. Nobody receives anything.
    Exits with 0, also if nothing changes; with 1 if the changed rulebook does not pass the checks; with 2 if nothing could
    be compared.
    """
    now = datetime.now(UTC)
    since_ms = _since_ms(since, last, now)
    if against is None and ledger.ledger is None and not Path(change).exists():
        found = call(given, lambda client: _ask(client, change, since_ms, last))
    elif against is None:
        raise CommandFailed("needs --against: the rulebook that is changed", ExitCode.USAGE)
    else:
        found = _simulated(given, ledger, Path(change), against, since_ms, last, limit, opa, now)
    show(choose_format(given.output), found)
    if html is not None:
        from broker.cli.rulebook.simulated_page import simulation_page

        write_private(html, simulation_page(found, change, int(now.timestamp() * 1000)).encode())


async def _ask(client: Client, proposal: str, since_ms: int | None, last: int | None) -> Simulation:
    from broker.cli.rulebook.simulation_answers import collected

    with shown_progress() as progress:
        found = await collected(
            client.rulebook.simulate(proposal, since_ms=since_ms, last=last or 0), progress
        )
    if found is None:
        raise CommandFailed("the exchange ended its answer before there was a result; ask it again")
    return found


def _simulated(
    given: Given,
    ledger: LedgerGiven,
    path: Path,
    against: str,
    since_ms: int | None,
    last: int | None,
    limit: int,
    opa: Path | None,
    now: datetime,
) -> Simulation:
    from broker.app.simulation import SimulationRequest, simulate_rulebook
    from broker.core.simulate.model import SimulationFailed

    refuse_absent(path)
    other = Path(against) if Path(against).exists() else against
    if ledger.ledger is None and isinstance(other, str):
        refuse_absent(Path(other))
    source = None if ledger.ledger is None else source_of(given, ledger)
    request = SimulationRequest(path, other, source, since_ms, last, opa, limit)
    with shown_progress() as progress:
        try:
            return run(simulate_rulebook(request, now, progress))
        except SimulationFailed as failed:
            raise CommandFailed(str(failed), ExitCode.USAGE) from None


def _since_ms(since: str | None, last: int | None, now: datetime) -> int | None:
    """From when on decisions count, in milliseconds since 1970."""
    if since is not None and last is not None:
        raise CommandFailed("--since and --last do not go together; choose one", ExitCode.USAGE)
    if last is not None:
        return None
    match = _SPAN.fullmatch(since or "7d")
    if match is None:
        return parse_since(since, "--since")
    return int(now.timestamp() * 1000) - int(match[1]) * _UNIT_MS[match[2]]


def show(form: OutputFormat, simulation: Simulation) -> None:
    """On standard output: tables, one JSON object, or a JSON object for each row and one for the rest."""
    whole = as_object(simulation)
    if form is OutputFormat.JSON:
        show_one(form, whole)
    elif form is OutputFormat.JSONL:
        show_all(form, (), [{"event": "row"} | row for row in whole.pop("rows")])  # type: ignore[attr-defined]
        show_one(form, {"event": "summary"} | whole)
    else:
        show_tables(simulation)


def show_tables(simulation: Simulation) -> None:
    """For people: whole agencies first, then what changes for whom."""
    if not simulation.rows:
        write_line("nothing changes for anybody")
    else:
        reaches = [
            {
                "owner": reach.owner,
                "consumer": reach.consumer,
                "topic": reach.topic,
                "recorded": from_to(reach.recorded_before, reach.recorded_after),
                "stored": from_to(reach.stored_before, reach.stored_after),
            }
            for reach in simulation.reaches
        ]
        show_all(OutputFormat.TABLE, _REACH_COLUMNS, reaches)
        write_line("")
        groups = [
            {
                "who": group.who,
                "records": group.what,
                "labels": group.labels,
                "change": f"{group.rows[0].shift}: {group.change}",
                "recorded": group.recorded,
                "stored": group.stored,
            }
            for group in groups_of(simulation.rows)
        ]
        show_all(OutputFormat.TABLE, _COLUMNS, groups)
        write_line("")
    for line in lines_of(simulation):
        write_line(one_line(line))
