"""`entente rulebook status`, `log` and `show`: what is in force, what was, what is proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.proposed import (
    approval_objects,
    change_lines,
    change_object,
    person,
    proposal_object,
    short,
    show_proposal,
    state_of,
    whole,
)
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line

if TYPE_CHECKING:
    from connectors.client import Client
    from protos.entente.v1 import rulebook_pb2 as pb

_COLUMNS = ("id", "state", "author", "time", "message")


@shared_options
def status(
    given: Given,
    closed: Annotated[
        bool, typer.Option("--closed", help="Proposals that were rejected or activated as well.")
    ] = False,
) -> None:
    """What is in force, since when, on which instances, and which proposals are open."""

    async def ask(client: Client) -> tuple[pb.GetStatusResponse, list[pb.Proposal]]:
        return await client.rulebook.status(), await client.rulebook.proposals(closed=closed)

    found, proposals = call(given, ask)
    form = choose_format(given.output)
    shown: dict[str, object] = {
        "revision": found.revision,
        "engine": found.engine,
        "since": found.since.ToJsonString(),
    }
    if found.number:
        shown["number"] = found.number
        shown["instances"] = {each.instance: "live" if each.live else "silent" for each in found.instances}
    if found.activating:
        shown["activating"] = found.activating
    if form is not OutputFormat.TABLE:
        show_one(form, {**shown, "proposals": [proposal_object(each) for each in proposals]})
        return
    show_one(form, shown)
    if proposals:
        write_line("")
        show_all(form, _COLUMNS, [_row(each) for each in proposals])


@shared_options
def log(
    given: Given,
    most: Annotated[int, typer.Option("--most", min=1, max=200, help="So many, the newest first.")] = 50,
) -> None:
    """What was in force: revisions, who made, approved and activated them, and what for."""
    found = call(given, lambda client: client.rulebook.log(most))
    form = choose_format(given.output)
    entries = [_entry(each) for each in found]
    if form is OutputFormat.TABLE:
        for entry in entries:
            entry["revision"] = short(str(entry["revision"]))
    show_all(form, ("revision", "time", "author", "activated_by", "proposal", "message"), entries)


@shared_options
def show(
    given: Given,
    which: Annotated[
        str, typer.Argument(metavar="ID|REVISION", help="A proposal, or the beginning of a revision's id.")
    ],
) -> None:
    """A proposal with all that was found about it and what it would change; or a revision, and what it changed."""
    if not which.startswith("sha256:"):
        show_proposal(given, call(given, lambda client: client.rulebook.proposal(which)))
        return

    async def ask(client: Client) -> tuple[pb.RevisionEntry, list[pb.RulebookChange]]:
        entries = await client.rulebook.log(200)
        revision = whole(which, [each.revision for each in entries])
        for number, entry in enumerate(entries):
            if entry.revision == revision:
                before = entries[number + 1].revision if number + 1 < len(entries) else revision
                return entry, await client.rulebook.diff(before, revision)
        message = f"'{which}' was never in force, as far as you may see; see 'entente rulebook log'"
        raise CommandFailed(message, ExitCode.REFUSED)

    entry, changes = call(given, ask)
    form = choose_format(given.output)
    if form is not OutputFormat.TABLE:
        shown = {**_entry(entry), "manifests": list(entry.manifests)}
        show_one(form, {**shown, "changes": [change_object(each) for each in changes]})
        return
    show_one(form, _entry(entry))
    for line in change_lines(changes):
        write_line(line)


def _row(proposal: pb.Proposal) -> dict[str, object]:
    return {
        "id": proposal.id,
        "state": state_of(proposal),
        "author": person(proposal.author),
        "time": proposal.propose_time.ToJsonString(),
        "message": proposal.message,
    }


def _entry(entry: pb.RevisionEntry) -> dict[str, object]:
    return {
        "revision": entry.revision,
        "time": entry.time.ToJsonString(),
        "author": person(entry.author) if entry.HasField("author") else None,
        "activated_by": person(entry.activated_by) if entry.HasField("activated_by") else None,
        "approvals": approval_objects(entry.approvals),
        "proposal": entry.proposal or None,
        "rollback": entry.rollback,
        "message": entry.message or None,
    }
