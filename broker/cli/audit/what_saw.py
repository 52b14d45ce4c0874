"""`entente audit what-saw`: what an agency received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit import asked
from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run
from broker.cli.audit.times import format_ms, parse_zone
from broker.cli.audit.words import labels_in_words
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.output import OutputFormat, choose_format, show_all

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.model.audit import Reception

_COLUMNS = ("day", "topic", "purpose", "type", "owner", "labels", "effect", "records", "handed_out")


@shared_options
@ledger_options
def what_saw(
    given: Given,
    ledger: LedgerGiven,
    agency: Annotated[str, typer.Argument(metavar="AGENCY")],
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="+HH:MM", help="Where days begin; default: UTC.")
    ] = None,
) -> None:
    """What an agency's people received: how many records a day, by topic, purpose and label set.

    "records" counts each record once for an entry, "handed out" the same times the people that received it.
    Without --ledger the exchange is asked, and answers what you may know.
    """
    zone_minutes = parse_zone(zone, "--zone")
    if ledger.ledger is None:
        found = call(given, lambda client: asked.what_saw(client, agency, topic, zone_minutes))
    else:
        found = run(_gather(source_of(given, ledger), agency, topic, zone_minutes))
    rows = [reception_object(each) for each in found]
    form = choose_format(given.output)
    if form is OutputFormat.TABLE:
        rows = [row | {"labels": labels_in_words(each.labels)} for row, each in zip(rows, found, strict=True)]
    show_all(form, _COLUMNS, rows)


async def _gather(source: LedgerSource, agency: str, topic: str | None, zone_minutes: int) -> list[Reception]:
    from broker.app.ledger_sources import opened_index, opened_source
    from broker.core.audit.sightings import what_saw as find

    async with opened_source(source) as opened:
        with shown_progress() as progress:
            async with opened_index(opened, progress) as index:
                return await find(index, agency, topic, zone_minutes)


def reception_object(each: Reception) -> dict[str, object]:
    """One row as an object."""
    return {
        "day": each.day,
        "topic": each.topic,
        "purpose": each.purpose,
        "type": each.type,
        "owner": each.owner,
        "labels": dict(each.labels),
        "effect": each.effect,
        "records": each.records,
        "handed_out": each.handed_out,
        "entries": each.entries,
        "first": format_ms(each.first_ms),
        "last": format_ms(each.last_ms),
    }
