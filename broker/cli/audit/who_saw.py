"""`entente audit who-saw`: who was handed a record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit import asked
from broker.cli.audit.asked import HIDDEN
from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run, write_private
from broker.cli.audit.times import format_ms, readable
from broker.cli.audit.words import treatments_in_words
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line
from connectors.cli.text import printable

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.model.audit import Publication, Sighting, Sightings
    from connectors.client import Client

_COLUMNS = ("when", "agency", "subject", "purpose", "fields", "acknowledged", "entry")


@dataclass(frozen=True, slots=True)
class Evidence:
    """An answer, and what shows it: leaf hashes by instance and index, and each instance's newest signed checkpoint."""

    found: Sightings
    hashes: dict[tuple[str, int], bytes]
    checkpoints: dict[str, bytes]
    origin: str


@shared_options
@ledger_options
def who_saw(
    given: Given,
    ledger: LedgerGiven,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The record's source, //AGENCY/….")],
    record_id: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to print or hand on, besides.")
    ] = None,
) -> None:
    """Each principal that was handed a record: when, for what, what became of its fields, and whether it acknowledged it.

    Without --ledger the exchange is asked, and answers what you may know.
    Exits with 3 if the ledger does not know the record, with 8 if entries that could name it are erased or not there.
    """
    if ledger.ledger is None:
        evidence = call(given, lambda client: _ask(client, source, record_id))
    else:
        evidence = run(_gather(source_of(given, ledger), source, record_id))
    found = evidence.found
    if not found.publications and not found.sightings:
        unknown = _UNKNOWN if found.complete else f"{_UNKNOWN}; {_GAPS}"
        raise CommandFailed(unknown if ledger.ledger is not None else _NOT_YOURS, ExitCode.REFUSED)
    _show(choose_format(given.output), found)
    if html is not None:
        from broker.cli.audit.who_saw_page import who_saw_page

        write_private(html, who_saw_page(source, record_id, evidence).encode())
    if not found.complete:
        complain(_GAPS)
        raise typer.Exit(ExitCode.INCOMPLETE)


_UNKNOWN = "the ledger that was read names no such record; check source and id"
_NOT_YOURS = "there is no such record that you may know of, or it might not exist; check source and id"
_GAPS = "entries that could name the record are erased or not in this ledger, so there may be more"


async def _ask(client: Client, source: str, record_id: str) -> Evidence:
    found, hashes = await asked.who_saw(client, source, record_id)
    notes = await asked.checkpoints(client)
    named = {instance for instance, _ in hashes}
    return Evidence(
        found,
        hashes,
        {instance: note for instance, note in notes.items() if instance in named},
        next((note.decode().partition("\n")[0].removesuffix(f"/{name}") for name, note in notes.items()), ""),
    )


async def _gather(ledger: LedgerSource, source: str, record_id: str) -> Evidence:
    from broker.app.ledger_sources import exchange_of, opened_index, opened_source
    from broker.core.audit.sightings import who_saw as find

    async with opened_source(ledger) as opened:
        with shown_progress() as progress:
            async with opened_index(opened, progress) as index:
                found = await find(index, source, record_id)
                places = {(each.instance, each.index) for each in found.publications}
                places |= {(each.instance, each.index) for each in found.sightings}
                rows = {place: await index.entry(*place) for place in sorted(places)}
                newest = {name: await index.latest_checkpoint(name) for name, _ in sorted(places)}
                return Evidence(
                    found,
                    {place: row.leaf_hash for place, row in rows.items() if row is not None},
                    {name: stored.note for name, stored in newest.items() if stored is not None},
                    await exchange_of(opened),
                )


def _show(form: OutputFormat, found: Sightings) -> None:
    publications = [publication_object(each) for each in found.publications]
    sightings = [sighting_object(each) for each in found.sightings]
    if form is OutputFormat.JSON:
        whole: dict[str, object] = {"publications": publications, "sightings": sightings}
        show_one(form, whole | {"complete": found.complete})
    elif form is OutputFormat.JSONL:
        show_all(form, (), [{"event": "published"} | each for each in publications])
        show_all(form, (), [{"event": "handed_out"} | each for each in sightings])
    else:
        for each in found.publications:
            again = " again" if each.duplicate else ""
            place = f"{each.instance}/{each.index}"
            write_line(printable(f"published{again} {readable(each.time_ms)} on {each.topic}, entry {place}"))
        rows = [
            row | {"when": readable(each.time_ms), "fields": _fields(each)}
            for row, each in zip(sightings, found.sightings, strict=True)
        ]
        show_all(form, _COLUMNS, rows)


def _fields(sighting: Sighting) -> str:
    if sighting.effect != "release":
        return "none, a notice only"
    words = treatments_in_words(sighting.treatments, sighting.decision)
    return "; ".join(f"{what}: {markings}" for what, markings in words)


def _place(each: Publication | Sighting) -> dict[str, object]:
    hidden = each.offset == HIDDEN
    return {
        "partition": None if hidden else each.partition,
        "offset": None if hidden else each.offset,
    }


def publication_object(each: Publication) -> dict[str, object]:
    """That a record was stored, as an object."""
    return {
        "time": format_ms(each.time_ms),
        "source": each.source,
        "id": each.id,
        "type": each.type,
        "owner": each.owner,
        "labels": dict(each.labels),
        "topic": each.topic,
        **_place(each),
        "duplicate": each.duplicate,
        "entry": f"{each.instance}/{each.index}",
    }


def sighting_object(each: Sighting) -> dict[str, object]:
    """That somebody was handed a record, as an object."""
    return {
        "time": format_ms(each.time_ms),
        "agency": each.agency,
        "subject": each.subject,
        "token": each.token,
        "certificate": each.certificate,
        "purpose": each.purpose,
        "subscription": each.subscription,
        "stream": each.stream,
        "effect": each.effect,
        "treatments": dict(each.treatments),
        "decision": dict(each.decision),
        "revision": each.revision,
        "engine": each.engine,
        "topic": each.topic,
        **_place(each),
        "acknowledged": each.acknowledged,
        "acknowledged_time": None if each.acknowledged_ms is None else format_ms(each.acknowledged_ms),
        "stream_ended": each.ended,
        "entry": f"{each.instance}/{each.index}",
    }
