"""`entente rulebook propose` and `rollback`: changes that others have to approve."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.opened import RulebookPath, refuse_absent
from broker.cli.rulebook.proposed import show_proposal, whole
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain

if TYPE_CHECKING:
    from connectors.client import Client
    from protos.entente.v1 import rulebook_pb2 as pb

MessageOption = Annotated[
    str, typer.Option("--message", "-m", help="What for; those who are to approve it read this.")
]


@shared_options
def propose(
    given: Given,
    path: RulebookPath,
    message: MessageOption,
    onto: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Refuse it if another revision than this one is in force."),
    ] = None,
    again: Annotated[
        str | None,
        typer.Option("--again", metavar="ID", help="Another version of this proposal; its approvals end."),
    ] = None,
) -> None:
    """Propose a rulebook, wait until the exchange has checked it, and print what it found.

    An agency's administrators send the directory that they pulled: their agency's own part of it counts, and the rest has to
    be as it was. Exits with 0 if others can approve it, and with 1 if it has errors.
    """
    refuse_absent(path)
    with tempfile.TemporaryDirectory(prefix="entente-propose-") as folder:
        archive = _packed(path, Path(folder) / "rulebook.tar.gz")

        async def send(client: Client) -> pb.Proposal:
            base = "" if onto is None else whole(onto, [(await client.rulebook.status()).revision])
            sent = client.rulebook.propose(archive, message, base=base, proposal=again or "")
            return await _checked(sent)

        proposal = call(given, send)
    finish(given, proposal)


@shared_options
def rollback(
    given: Given,
    message: MessageOption,
    revision: Annotated[
        str | None,
        typer.Argument(metavar="[REVISION]", help="It was in force before; default: the one before."),
    ] = None,
) -> None:
    """Propose to put an earlier revision in force again; another administrator of the exchange approves it.

    Exits with 0 if others can approve it, and with 1 if it has errors.
    """

    async def send(client: Client) -> pb.Proposal:
        known = [each.revision for each in await client.rulebook.log(200)] if revision else []
        wanted = whole(revision, known) if revision else ""
        return await _checked(client.rulebook.rollback(message, wanted))

    finish(given, call(given, send))


def finish(given: Given, proposal: pb.Proposal) -> None:
    """Show a proposal that was checked, and what comes next. Raises typer.Exit for one that has errors."""
    accepted = proposal.check.accepted
    ended = f"to approve: entente rulebook approve {proposal.id} --revision {proposal.revision}"
    show_proposal(given, proposal, ended=ended if accepted else "")
    if not accepted:
        raise typer.Exit(ExitCode.FAILED)


async def _checked(sent: AsyncIterator[pb.Proposal]) -> pb.Proposal:
    """The proposal at the end of the checks; says on standard error when they begin."""
    newest: pb.Proposal | None = None
    async for proposal in sent:
        newest = proposal
        if not proposal.HasField("check"):
            complain(f"proposal {proposal.id} is stored, and is being checked")
    if newest is None or not newest.HasField("check"):
        raise CommandFailed("the exchange did not say what its checks found; see 'entente rulebook status'")
    return newest


def _packed(path: Path, archive: Path) -> Path:
    """The archive of what is at `path`; what no exchange would take is told here. Raises CommandFailed."""
    from broker.core.rulebook.archive import read_directory_or_archive
    from broker.core.rulebook.pack import pack
    from broker.errors import RulebookRefused

    try:
        revision = read_directory_or_archive(path)
    except RulebookRefused as refused:
        raise CommandFailed("; ".join(refused.findings), ExitCode.USAGE) from None
    with archive.open("wb") as file:
        pack(revision.files, file)
    return archive
