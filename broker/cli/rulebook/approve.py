"""`entente rulebook approve` and `reject`: what others make of a proposal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.proposed import show_proposal, whole
from broker.cli.settings import Given

if TYPE_CHECKING:
    from connectors.client import Client
    from protos.entente.v1 import rulebook_pb2 as pb

ProposalId = Annotated[str, typer.Argument(metavar="ID", help="The proposal's id.")]


@shared_options
def approve(
    given: Given,
    proposal: ProposalId,
    revision: Annotated[
        str,
        typer.Option(
            "--revision",
            metavar="REVISION",
            help="The revision that you looked at, or the beginning of its id; another version is not approved.",
        ),
    ],
) -> None:
    """Approve one version of somebody else's proposal. See it first: `entente rulebook show ID`."""

    async def send(client: Client) -> pb.Proposal:
        found = await client.rulebook.proposal(proposal)
        return await client.rulebook.approve(proposal, whole(revision, [found.revision]))

    approved = call(given, send)
    ended = "" if approved.missing else f"to activate: entente rulebook activate {approved.id}"
    show_proposal(given, approved, ended=ended)


@shared_options
def reject(
    given: Given,
    proposal: ProposalId,
    reason: Annotated[str, typer.Option("--reason", help="Why; its author reads this.")],
) -> None:
    """Close a proposal for good. Its author may do it too."""
    show_proposal(given, call(given, lambda client: client.rulebook.reject(proposal, reason)))
