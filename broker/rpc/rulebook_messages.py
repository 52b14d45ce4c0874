"""What the Rulebook service answers, as protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from broker.core.rulebook.desk import Activation
from broker.core.rulebook.difference import Change, Detail
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.library import LogEntry, ShownProposal
from broker.core.rulebook.proposals import Pair, Signed
from protos.entente.v1 import rulebook_pb2 as pb

CHANGES_BYTES = 1 << 20
"""What changes may take in one message: clients take 4 MiB by default."""

_UNSIGNED_MOST = 2**32 - 1


def proposal(shown: ShownProposal) -> pb.Proposal:
    """A proposal as it is shown."""
    of = shown.proposal
    message = pb.Proposal(
        id=of.id,
        revision=shown.revision,
        parent=shown.parent,
        author=person(of.author),
        message=of.message,
        areas=[pb.RulebookArea(kind=kind, owner=owner) for kind, owner in shown.areas],
        state=pb.ProposalState.Value(f"PROPOSAL_STATE_{shown.standing.name}"),
        approvals=map(_approval, shown.approvals),
        missing=shown.missing,
        rollback=of.rollback,
    )
    message.changes_cut = add_changes(message.changes, shown.changes)
    message.propose_time.FromMilliseconds(of.time_ms)
    if of.check is not None and shown.findings is not None:
        message.check.CopyFrom(_check(of.check.accepted, of.check.cut, shown.findings))
    if of.rejected is not None:
        message.rejection.by.CopyFrom(person(of.rejected.by))
        message.rejection.time.FromMilliseconds(of.rejected.time_ms)
        message.rejection.reason = of.reason
    return message


def person(pair: Pair) -> pb.Person:
    """Somebody who administers."""
    agency, subject = pair
    return pb.Person(agency=agency, subject=subject)


def add_changes(into: RepeatedCompositeFieldContainer[pb.RulebookChange], found: Iterable[Change]) -> bool:
    """Add what is different, as much as a message may take; whether something is left out."""
    size_bytes = 0
    for each in found:
        message = change(each)
        size_bytes += message.ByteSize()
        if size_bytes > CHANGES_BYTES:
            return True
        into.append(message)
    return False


def change(found: Change) -> pb.RulebookChange:
    """One thing that is different."""
    return pb.RulebookChange(
        kind=found.kind,
        name=found.name,
        how=str(found.how),
        owner=found.owner or "",
        file=found.file,
        line=found.line or 0,
        details=map(_detail, found.details),
    )


def activation(done: Activation) -> pb.Activation:
    """What an activation came to."""
    took_ms = min(round(done.took_ms), _UNSIGNED_MOST)
    return pb.Activation(revision=done.revision, took_ms=took_ms, fenced=done.fenced)


def log_entry(entry: LogEntry) -> pb.RevisionEntry:
    """That a revision came into force."""
    message = pb.RevisionEntry(
        revision=entry.revision,
        approvals=map(_approval, entry.approvals),
        rollback=entry.proposal is not None and entry.proposal.rollback,
        manifests=[note.decode() for note in entry.manifests],
    )
    message.time.FromMilliseconds(entry.activated.time_ms)
    if entry.activator is not None:
        message.activated_by.CopyFrom(person(entry.activator))
    if (of := entry.proposal) is not None:
        message.author.CopyFrom(person(of.author))
        message.message, message.proposal = of.message, of.id
    return message


def _check(accepted: bool, cut: bool, findings: Iterable[Finding]) -> pb.RulebookCheck:
    return pb.RulebookCheck(accepted=accepted, findings=map(_finding, findings), cut=cut)


def _finding(found: Finding) -> pb.RulebookFinding:
    return pb.RulebookFinding(
        severity=str(found.severity),
        file=found.file,
        line=found.line or 0,
        what=found.what,
        remedy=found.remedy,
    )


def _approval(signed: Signed) -> pb.Approval:
    message = pb.Approval(by=person(signed.by))
    message.time.FromMilliseconds(signed.time_ms)
    return message


def _detail(detail: Detail) -> pb.RulebookChangeDetail:
    return pb.RulebookChangeDetail(key=detail.key, before=detail.before, after=detail.after)
