"""How proposals, findings and changes that the exchange tells are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from broker.cli.rulebook.opened import counted
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line
from connectors.cli.text import one_line

if TYPE_CHECKING:
    from protos.entente.v1 import rulebook_pb2 as pb

_REVISION_CHARACTERS = len("sha256:") + 12
_PREFIX_LEAST = len("sha256:") + 8


def short(revision: str) -> str:
    """The beginning of a revision's id, which the commands take as well."""
    return revision[:_REVISION_CHARACTERS]


def whole(prefix: str, known: Iterable[str]) -> str:
    """The one revision's id that begins so. Raises CommandFailed."""
    found = sorted({revision for revision in known if revision.startswith(prefix)})
    if prefix in found:
        return prefix
    if len(prefix) < _PREFIX_LEAST or not prefix.startswith("sha256:"):
        message = f"'{prefix}' is no revision's id, nor 8 digits of one; write it as sha256:…"
        raise CommandFailed(message, ExitCode.USAGE)
    if len(found) > 1:
        raise CommandFailed(f"'{prefix}' begins several revisions' ids; write more of it", ExitCode.USAGE)
    return found[0] if found else prefix


def show_proposal(given: Given, proposal: pb.Proposal, *, ended: str = "") -> None:
    """Everything that is told of one proposal; ended: a last line for people."""
    form = choose_format(given.output)
    if form is not OutputFormat.TABLE:
        show_one(form, proposal_object(proposal))
        return
    for line in proposal_lines(proposal):
        write_line(line)
    if ended:
        write_line(ended)


def proposal_lines(proposal: pb.Proposal) -> list[str]:
    """For people."""
    lines = [
        f"proposal {proposal.id}: {state_of(proposal)}",
        f"  revision {proposal.revision}",
        f"  changes {proposal.parent}",
        f"  by {person(proposal.author)} at {proposal.propose_time.ToJsonString()}",
        f"  for: {proposal.message}",
        "  about: " + ", ".join(map(_area, proposal.areas)),
    ]
    lines += [f"  approved by {person(each.by)}" for each in proposal.approvals]
    lines += [f"  missing: {each}" for each in proposal.missing]
    if proposal.HasField("rejection"):
        lines.append(f"  rejected by {person(proposal.rejection.by)}: {proposal.rejection.reason}")
    lines = [f"{line[:2]}{one_line(line[2:])}" for line in lines]
    lines += [f"  {line}" for line in change_lines(proposal.changes)]
    if proposal.changes_cut:
        lines.append("  … and more changes; pull the proposal, and compare it with what is in force")
    if proposal.HasField("check"):
        lines += finding_lines(proposal.check.findings)
        lines.append(_summary(proposal.check))
    return lines


def finding_lines(findings: Iterable[pb.RulebookFinding]) -> list[str]:
    """A line each, as `entente rulebook check` writes them."""
    lines = []
    for each in findings:
        place = f"{each.file}:{each.line}" if each.line else each.file
        lines.append(one_line(f"{place}: {each.severity}: {each.what}; {each.remedy}"))
    return lines


def change_lines(changes: Iterable[pb.RulebookChange]) -> list[str]:
    """As `entente rulebook diff` writes them."""
    lines = []
    for each in changes:
        place = f"{each.file}:{each.line}" if each.line else each.file
        if each.kind == "text":
            lines.append(one_line(f"{place}: comments or layout only"))
            continue
        lines.append(one_line(f"{place}: {each.kind} {each.how}: {each.name}"))
        lines += [f"    {one_line(_detail(detail))}" for detail in each.details]
    return lines


def proposal_object(proposal: pb.Proposal) -> dict[str, object]:
    """For programs."""
    found: dict[str, object] = {
        "id": proposal.id,
        "state": state_of(proposal),
        "revision": proposal.revision,
        "parent": proposal.parent,
        "author": person(proposal.author),
        "message": proposal.message,
        "time": proposal.propose_time.ToJsonString(),
        "areas": [{"kind": area.kind, "owner": area.owner} for area in proposal.areas],
        "rollback": proposal.rollback,
        "approvals": approval_objects(proposal.approvals),
        "missing": list(proposal.missing),
        "changes": [change_object(each) for each in proposal.changes],
        "changes_cut": proposal.changes_cut,
    }
    if proposal.HasField("check"):
        found["accepted"] = proposal.check.accepted
        found["findings"] = [_finding_object(each) for each in proposal.check.findings]
    if proposal.HasField("rejection"):
        found["rejection"] = {"by": person(proposal.rejection.by), "reason": proposal.rejection.reason}
    return found


def approval_objects(approvals: Iterable[pb.Approval]) -> list[object]:
    """For programs."""
    return [{"by": person(each.by), "time": each.time.ToJsonString()} for each in approvals]


def change_object(change: pb.RulebookChange) -> dict[str, object]:
    """For programs, as `entente rulebook diff` writes it."""
    return {
        "kind": change.kind,
        "name": change.name,
        "how": change.how,
        "owner": change.owner or None,
        "file": change.file,
        "line": change.line or None,
        "details": [
            {
                "key": each.key,
                "before": each.before if each.HasField("before") else None,
                "after": each.after if each.HasField("after") else None,
            }
            for each in change.details
        ],
    }


def state_of(proposal: pb.Proposal) -> str:
    """In a word."""
    from protos.entente.v1 import rulebook_pb2

    name = rulebook_pb2.ProposalState.Name(proposal.state)
    return name.removeprefix("PROPOSAL_STATE_").lower()


def person(found: pb.Person) -> str:
    """As everywhere: agency/subject."""
    return f"{found.agency}/{found.subject}"


def _finding_object(finding: pb.RulebookFinding) -> dict[str, object]:
    return {
        "severity": finding.severity,
        "file": finding.file,
        "line": finding.line or None,
        "what": finding.what,
        "remedy": finding.remedy,
    }


def _area(area: pb.RulebookArea) -> str:
    return f"{area.kind} of {area.owner}" if area.owner else f"{area.kind} of the exchange"


def _detail(detail: pb.RulebookChangeDetail) -> str:
    if not detail.HasField("before"):
        return f"{detail.key}: + {detail.after}" if detail.HasField("after") else detail.key
    if not detail.HasField("after"):
        return f"{detail.key}: - {detail.before}"
    return f"{detail.key}: {detail.before} → {detail.after}"


def _summary(check: pb.RulebookCheck) -> str:
    errors = _count(check.findings, "error")
    warnings = counted(_count(check.findings, "warning"), "warning")
    if check.accepted:
        return f"the checks found no error, and {warnings}"
    return f"refused: {counted(errors, 'error')}, {warnings}" + (", and more" if check.cut else "")


def _count(findings: Sequence[pb.RulebookFinding], severity: str) -> int:
    return sum(each.severity == severity for each in findings)
