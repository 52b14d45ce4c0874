"""`entente audit check-receipts`: what was handed out or accepted without an entry that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run
from broker.cli.audit.trusting import trust_of
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.core.audit.receipts import OpenReceipt, ReceiptsChecked
    from broker.core.audit.trust import Trust
    from connectors.client import Client

_LINE_BYTES = 64 << 20


@shared_options
@ledger_options
def check_receipts(
    given: Given,
    ledger: LedgerGiven,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Receipts, one JSON object a line.")],
    receipt_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The exchange's receipt.keys; needed with --ledger.")
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="Without --ledger: the exchange's ledger.vkey, from elsewhere; may be repeated."),
    ] = None,
    witness_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Without --ledger: keys of witnesses; then one must have cosigned each checkpoint."
        ),
    ] = None,
) -> None:
    """Look up the receipts that a customer kept: is there an entry for each batch that was received, and for each publish
    call that was acknowledged, and is it about exactly what was received or published?

    Without --ledger the exchange itself has to prove it, to the receipts' holder. Exits with 0 if all are sound, with 7 if
    something was released or accepted without its entry, or an entry was changed.
    """
    trust = trust_of(public_key, None, witness_key)
    checked = _checked(given, ledger, file, receipt_keys, trust)
    _show(choose_format(given.output), checked)
    faults = [finding for finding in checked.findings if finding.severity.value == "fault"]
    for finding in checked.findings:
        complain(finding.line())
    if faults:
        raise typer.Exit(ExitCode.FAULTS_FOUND)


def _checked(
    given: Given, ledger: LedgerGiven, file: Path, receipt_keys: Path | None, trust: Trust
) -> ReceiptsChecked:
    if ledger.ledger is not None:
        if receipt_keys is None:
            raise CommandFailed(
                "--ledger needs --receipt-keys, the exchange's file receipt.keys", ExitCode.USAGE
            )
        if trust.witnesses:
            message = "--witness-key is for what the exchange proves; use `entente audit verify` with it on a ledger"
            raise CommandFailed(message, ExitCode.USAGE)
        return run(_check(source_of(given, ledger), file, receipt_keys))
    checked = call(given, lambda client: _ask(client, file, trust))
    if checked.sound and not trust.keys:
        complain(
            "internally consistent only: the exchange may have made all of it up;"
            " check with its public key (--public-key)"
        )
    return checked


async def _ask(client: Client, file: Path, trust: Trust) -> ReceiptsChecked:
    from broker.cli.audit import asked
    from broker.core.audit.receipts_asked import check_answers

    with shown_progress() as progress:
        ask = partial(asked.check_receipts, client)
        return await check_answers(_lines(file), ask, trust.keys, progress, trust.witnesses)


async def _check(source: LedgerSource, file: Path, receipt_keys: Path) -> ReceiptsChecked:
    from broker.app.ledger_sources import opened_index, opened_source
    from broker.core.audit.receipts import check_receipts as check

    opener = _opener(receipt_keys)
    async with opened_source(source) as opened:
        with shown_progress() as progress:
            async with opened_index(opened, progress) as index:
                return await check(_lines(file), opened.reader, index, opener, progress)


def _opener(receipt_keys: Path) -> OpenReceipt:
    """Opens receipts with the exchange's keys. Raises KeysRefused."""
    from broker.adapters.keyring import FileKeys
    from broker.core.ledger.receipt import RECEIPT_USE, Receipt, ReceiptCodec, ReceiptInvalid

    codec = ReceiptCodec(FileKeys.open_use(receipt_keys, RECEIPT_USE))

    def open_receipt(sealed: bytes, agency: str, subject: str) -> Receipt | None:
        try:
            return codec.open(sealed, agency, subject)
        except ReceiptInvalid:
            return None

    return open_receipt


async def _lines(file: Path) -> AsyncIterator[bytes]:
    """The file's lines without their ends; raises CommandFailed for a line that no client writes."""
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(_LINE_BYTES + 1):
            number += 1
            if len(line) > _LINE_BYTES:
                message = f"{file}:{number}: longer than {_LINE_BYTES} bytes; this is no file of receipts"
                raise CommandFailed(message, ExitCode.USAGE)
            if line.strip():
                yield line.rstrip(b"\r\n")


def _show(form: OutputFormat, checked: ReceiptsChecked) -> None:
    counts = {"checked": checked.checked, "sound": checked.sound}
    findings = [
        {"severity": each.severity.value, "instance": each.instance, "index": each.index, "what": each.what}
        for each in checked.findings
    ]
    if form is not OutputFormat.TABLE:
        show_one(form, counts | {"findings": findings})
        return
    show_one(form, counts)
    if findings:
        show_all(form, ("severity", "instance", "index", "what"), findings)
