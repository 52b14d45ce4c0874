"""`entente audit prove`: one entry, or one's part of it, in a file that needs no trust."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit import asked
from broker.cli.audit.check import checked_proof
from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run, write_private
from broker.cli.audit.trusting import read_public_keys
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import choose_format, show_one

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.core.audit.proofs import ReceiverPart, RecordPart

_ENTRY = re.compile(r"(?:([a-z0-9-]{1,32})/)?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class EntryName:
    """An entry as the command line names it; instance None: the only one there is."""

    instance: str | None
    index: int


@shared_options
@ledger_options
def prove(
    given: Given,
    ledger: LedgerGiven,
    entry: Annotated[
        str, typer.Argument(metavar="ENTRY", help="INSTANCE/INDEX, as who-saw and verify show it.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the proof.")],
    subject: Annotated[
        str | None, typer.Option(help="Of a delivery, only what this subject was handed.")
    ] = None,
    subscription: Annotated[
        str | None, typer.Option(help="With --subject: the subscription; without it the unnamed one.")
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(help="With --subject: the stream, where an entry names the subscription twice."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Of a publish entry, only the record of this source …")
    ] = None,
    record_id: Annotated[str | None, typer.Option("--id", help="… and this id.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to print or hand on, besides.")
    ] = None,
    public_key: Annotated[
        list[Path] | None, typer.Option(help="For the page: the exchange's ledger.vkey, from elsewhere.")
    ] = None,
) -> None:
    """Write one entry, or one subscription's or record's part of it, with the proof that a signed checkpoint covers it.

    The file shows what it shows to whoever has it: without a part that is the whole entry. `entente audit check` needs
    the file and the exchange's public key, and nothing else. Without --ledger the exchange is asked, and proves what
    you may know.
    """
    name = parse_entry(entry)
    part = part_of(subject, subscription, stream, source, record_id)
    keys = read_public_keys(public_key or (), "--public-key")
    if ledger.ledger is not None:
        document = run(_prove(source_of(given, ledger), name, part))
    elif name.instance is not None:
        instance = name.instance
        document = call(given, lambda client: asked.prove(client, instance, name.index, part))
    else:
        raise CommandFailed("ENTRY needs its instance, for example broker/12", ExitCode.USAGE)
    write_private(out, document)
    if html is not None:
        from broker.cli.audit.proof_page import proof_page

        write_private(html, proof_page(checked_proof(out, document, keys)).encode())
    show_one(choose_format(given.output), {"entry": entry, "proof": str(out), "bytes": len(document)})


def parse_entry(text: str) -> EntryName:
    """INSTANCE/INDEX, or INDEX alone. Raises CommandFailed (usage)."""
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise CommandFailed("ENTRY is INSTANCE/INDEX, for example broker/12", ExitCode.USAGE)
    return EntryName(match[1], int(match[2]))


def part_of(
    subject: str | None,
    subscription: str | None,
    stream: str | None,
    source: str | None,
    record_id: str | None,
) -> ReceiverPart | RecordPart | None:
    """The part that the options choose; None: the whole entry. Raises CommandFailed (usage)."""
    from broker.core.audit.proofs import ReceiverPart, RecordPart

    if (source is None) != (record_id is None):
        raise CommandFailed("--source and --id belong together", ExitCode.USAGE)
    if subject is None and (subscription is not None or stream is not None):
        raise CommandFailed("--subscription and --stream belong to --subject", ExitCode.USAGE)
    if subject is not None and source is not None:
        raise CommandFailed("--subject and --source choose different parts; give one", ExitCode.USAGE)
    if subject is not None:
        return ReceiverPart(subject, subscription or "", stream)
    return None if source is None or record_id is None else RecordPart(source, record_id)


async def _prove(source: LedgerSource, name: EntryName, part: ReceiverPart | RecordPart | None) -> bytes:
    from broker.app.ledger_sources import opened_index, opened_source
    from broker.core.audit.proofs import prove as make_proof

    async with opened_source(source) as opened:
        instances = await opened.reader.instances()
        instance = name.instance
        if instance is None:
            if len(instances) != 1:
                known = ", ".join(instances)
                raise CommandFailed(f"ENTRY needs its instance here, one of: {known}", ExitCode.USAGE)
            instance = instances[0]
        with shown_progress() as progress:
            async with opened_index(opened, progress) as index:
                return await make_proof(opened.reader, index, instance, name.index, part)
