"""`entente audit check`: what a proof shows, with nothing but a public key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.running import read_file, write_private
from broker.cli.audit.times import format_ms
from broker.cli.audit.trusting import read_public_keys, read_witness_keys
from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import choose_format, show_one

if TYPE_CHECKING:
    from broker.core.audit.proofs import CheckedProof
    from broker.core.checkpoint.note import VerifierKey

_PROOF_BYTES = 256 << 20


@shared_options
def check(
    given: Given,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `entente audit prove` wrote.")],
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="The exchange's ledger.vkey, which you had from elsewhere; may be repeated."),
    ] = None,
    witness_key: Annotated[
        list[Path] | None,
        typer.Option(help="Keys of witnesses; then one must have cosigned the checkpoint. May be repeated."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to print or hand on, besides.")
    ] = None,
) -> None:
    """Check a proof and show what it proves. Needs no ledger and no exchange.

    Exits with 0 if the proof holds, and says whether a key that you trust has signed it; with 7 if it does not hold.
    """
    keys = read_public_keys(public_key or (), "--public-key")
    witnesses = read_witness_keys(witness_key or ())
    checked = checked_proof(file, read_file(file, "FILE", _PROOF_BYTES), keys, witnesses)
    show_one(choose_format(given.output), checked_object(checked))
    if html is not None:
        from broker.cli.audit.proof_page import proof_page

        write_private(html, proof_page(checked).encode())
    if not checked.signed_by:
        complain(
            "internally consistent only: whoever wrote the file may have written all of it;"
            " check it with the exchange's public key (--public-key)"
        )


def checked_proof(
    file: Path, document: bytes, keys: tuple[VerifierKey, ...], witnesses: tuple[VerifierKey, ...] = ()
) -> CheckedProof:
    """What a proof shows; raises CommandFailed if it does not hold."""
    from broker.core.audit.proofs import ProofRefused
    from broker.core.audit.proofs import check as check_proof

    try:
        return check_proof(document, keys, witnesses)
    except ProofRefused as error:
        raise CommandFailed(f"{file}: {error}", ExitCode.FAULTS_FOUND) from None


def checked_object(checked: CheckedProof) -> dict[str, object]:
    """What a proof shows, as an object."""
    return {
        "level": "verified" if checked.signed_by else "internally consistent only",
        "entry": f"{checked.instance}/{checked.index}",
        "epoch": checked.epoch,
        "kind": checked.kind,
        "time": format_ms(checked.time_ms),
        "leaf_hash": checked.leaf_hash.hex(),
        "whole": checked.whole,
        "parts": dict(checked.parts),
        "origin": checked.checkpoint.origin,
        "tree_size": checked.checkpoint.size,
        "tree_root": checked.checkpoint.root.hex(),
        "signed_by": list(checked.signed_by),
        "cosigned_by": list(checked.cosigned_by),
    }
