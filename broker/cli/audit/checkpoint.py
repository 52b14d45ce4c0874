"""`entente audit checkpoint`: the newest signed checkpoints, to be kept by whoever does not want to trust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit import asked
from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.running import run
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import choose_format, show_all
from connectors.cli.text import to_json

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource

_COLUMNS = ("instance", "origin", "size", "root")


@shared_options
@ledger_options
def checkpoint(
    given: Given,
    ledger: LedgerGiven,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append them to this file, which 'verify --after' takes."),
    ] = None,
) -> None:
    """The newest signed checkpoint of each instance's ledger. Without --ledger the exchange is asked; anyone may.

    Keep them where the exchange's operator cannot reach them: a ledger that is rolled back, or shown in two versions,
    cannot agree with what you have.
    """
    asks = ledger.ledger is None
    notes = call(given, asked.checkpoints) if asks else run(_newest(source_of(given, ledger)))
    if not notes:
        raise CommandFailed("there is no signed checkpoint yet; ask again in a moment", ExitCode.REFUSED)
    found = [_object(instance, note) for instance, note in sorted(notes.items())]
    show_all(choose_format(given.output), _COLUMNS, found)
    if keep is not None:
        append(keep, found)


async def _newest(source: LedgerSource) -> dict[str, bytes]:
    """The last checkpoint of each instance."""
    from broker.app.ledger_sources import opened_source

    newest: dict[str, bytes] = {}
    async with opened_source(source) as opened:
        for instance in await opened.reader.instances():
            async for stored in opened.reader.checkpoints(instance):
                newest[instance] = stored.note
    return newest


def _object(instance: str, note: bytes) -> dict[str, object]:
    """A checkpoint as an object; raises CommandFailed for what is none."""
    from broker.core.checkpoint.checkpoint import unverified_checkpoint
    from broker.core.checkpoint.note import NoteInvalid

    try:
        read = unverified_checkpoint(note)
    except NoteInvalid as error:
        raise CommandFailed(f"{instance}: {error}", ExitCode.FAULTS_FOUND) from None
    return {
        "instance": instance,
        "origin": read.origin,
        "size": read.size,
        "root": read.root.hex(),
        "note": note.decode(),
    }


def append(path: Path, found: list[dict[str, object]]) -> None:
    """Add lines as a file witness has them, durably; one that a crash left unfinished before them is ended.

    Raises CommandFailed.
    """
    lines = "".join(
        to_json({name: each[name] for name in ("origin", "size", "note")}) + "\n" for each in found
    )
    try:
        with path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                lines = lines if file.read() == b"\n" else "\n" + lines
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}; choose another place") from None
