"""Proposals to change the rulebook, as a fold over the control log: pure, and the same on every instance.

A proposal has one version at a time. Checks and approvals are of a version: they name its revision, and count for no other.
Whether it is stale or was activated is for the activations to say; see `standing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

from broker.core.control.activations import Activations
from broker.core.control.values import whole_number, word
from broker.core.rulebook.findings import Finding, Severity
from broker.model.control import ControlEvent
from broker.model.ledger import JsonValue

AREAS_MOST = 1_000
"""The most areas of one proposal; whoever is to approve it could not look at more."""

Pair = tuple[str, str]
"""A person as (agency, subject id), or an area as (kind, owner)."""


@dataclass(frozen=True, slots=True)
class SaidOf:
    """A finding as it is kept: `told` is what the owner of its file is shown instead, where it says what others grant."""

    finding: Finding
    told: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The result of the checks; `cut`: there is more than `findings`, in which errors come first."""

    accepted: bool
    findings: tuple[SaidOf, ...] = ()
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Signed:
    """Who did something, and when in milliseconds since 1970."""

    by: Pair
    time_ms: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal with its present version.

    position: of the version in the control log. instance: which checks it. areas: what it is about.
    """

    id: str
    revision: str
    parent: str
    author: Pair
    message: str
    time_ms: int
    areas: tuple[Pair, ...]
    rollback: bool
    instance: str
    position: int
    check: Check | None = None
    approvals: tuple[Signed, ...] = ()
    rejected: Signed | None = None
    reason: str = ""


class Standing(StrEnum):
    """Where a proposal stands."""

    CHECKING = "checking"
    REFUSED = "refused"
    OPEN = "open"
    STALE = "stale"
    REJECTED = "rejected"
    ACTIVATED = "activated"


def standing(proposal: Proposal, activations: Activations) -> Standing:
    """Where it stands, given what is in force."""
    if any(each.proposal == proposal.id for each in reversed(activations.history)):
        return Standing.ACTIVATED
    if proposal.rejected is not None:
        return Standing.REJECTED
    if proposal.parent != activations.revision:
        return Standing.STALE
    if proposal.check is None:
        return Standing.CHECKING
    return Standing.OPEN if proposal.check.accepted else Standing.REFUSED


@dataclass(frozen=True, slots=True)
class Begun:
    """How an activation began: by whom, and with which version of a proposal. None where there is no such."""

    by: Pair | None
    proposal: Proposal | None


@dataclass(frozen=True, slots=True)
class Proposals:
    """All proposals, the newest last. begun: activations that began, by their ids."""

    kinds: ClassVar[frozenset[str]] = frozenset({"proposed", "checked", "approved", "rejected", "preparing"})

    by_id: Mapping[str, Proposal] = field(default_factory=dict)
    begun: Mapping[str, Begun] = field(default_factory=dict)

    def apply(self, event: ControlEvent, position: int) -> Proposals | None:
        """See Fold."""
        if event.kind == "preparing":
            return self._preparing(event.body)
        if event.kind == "proposed":
            return self._proposed(event, position)
        known = self.by_id.get(word(event.body, "proposal"))
        if known is None or known.rejected is not None:
            return None
        changed = _STEPS[event.kind](known, event)
        return None if changed is None else self._with(changed)

    def _preparing(self, body: Mapping[str, JsonValue]) -> Proposals | None:
        """Of a proposal only the version that passed the checks can be activated, whatever came while that was asked for."""
        proposal: Proposal | None = None
        if body.get("proposal") is not None:
            proposal = self.by_id.get(word(body, "proposal"))
            if proposal is None or proposal.revision != word(body, "revision"):
                return None
            if proposal.rejected is not None or proposal.check is None or not proposal.check.accepted:
                return None
        try:
            by: Pair | None = _person(body)
        except (KeyError, TypeError, ValueError):
            by = None
        return replace(self, begun={**self.begun, word(body, "activation"): Begun(by, proposal)})

    def _proposed(self, event: ControlEvent, position: int) -> Proposals | None:
        """A new proposal, or another version of one that is open: what was said of the version before is void."""
        body = event.body
        known = self.by_id.get(word(body, "proposal"))
        author = _person(body)
        if known is not None and (known.rejected is not None or known.author[0] != author[0]):
            return None
        made = Proposal(
            word(body, "proposal"),
            word(body, "revision"),
            word(body, "parent"),
            author,
            word(body, "message"),
            event.time_ms,
            _areas(body),
            body.get("rollback") is True,
            event.instance,
            position,
        )
        return self._with(made)

    def _with(self, changed: Proposal) -> Proposals:
        known = self.by_id.get(changed.id)
        others = self.by_id
        if known is not None and known.position != changed.position:
            # Another version goes to the end.
            others = {name: each for name, each in others.items() if name != changed.id}
        return replace(self, by_id={**others, changed.id: changed})


def _checked(known: Proposal, event: ControlEvent) -> Proposal | None:
    """The first result for this version counts."""
    same = whole_number(event.body, "version") == known.position
    return replace(known, check=read_check(event.body)) if same and known.check is None else None


def _approved(known: Proposal, event: ControlEvent) -> Proposal | None:
    """Counts for the version that was looked at, if it passed the checks; once for each person, and never the author's."""
    by = _person(event.body)
    same = word(event.body, "revision") == known.revision
    if not same or known.check is None or not known.check.accepted or by == known.author:
        return None
    if any(each.by == by for each in known.approvals):
        return None
    return replace(known, approvals=(*known.approvals, Signed(by, event.time_ms)))


def _rejected(known: Proposal, event: ControlEvent) -> Proposal | None:
    by = Signed(_person(event.body), event.time_ms)
    return replace(known, rejected=by, reason=word(event.body, "reason"))


_STEPS = {"checked": _checked, "approved": _approved, "rejected": _rejected}


def check_body(check: Check) -> dict[str, JsonValue]:
    """The check as an event holds it."""
    findings: list[JsonValue] = [
        {
            "severity": str(each.finding.severity),
            "file": each.finding.file,
            "line": each.finding.line,
            "what": each.finding.what,
            "remedy": each.finding.remedy,
            "told": each.told,
        }
        for each in check.findings
    ]
    return {"accepted": check.accepted, "findings": findings, "cut": check.cut}


def read_check(body: Mapping[str, JsonValue]) -> Check:
    """As `check_body` wrote it; raises KeyError, TypeError or ValueError."""
    found = body["findings"]
    if not isinstance(found, list):
        raise TypeError("findings are no list")
    return Check(body["accepted"] is True, tuple(map(_said, found)), body.get("cut") is True)


def _said(value: JsonValue) -> SaidOf:
    if not isinstance(value, dict):
        raise TypeError("a finding is no object")
    line, told = value["line"], value.get("told")
    severity = Severity(word(value, "severity"))
    at = None if line is None else whole_number(value, "line")
    finding = Finding(word(value, "file"), at, word(value, "what"), word(value, "remedy"), severity)
    return SaidOf(finding, told if isinstance(told, str) else None)


def _person(body: Mapping[str, JsonValue]) -> Pair:
    who = body["by"]
    if not isinstance(who, dict):
        raise TypeError("'by' is no object")
    return word(who, "agency"), word(who, "subject")


def _areas(body: Mapping[str, JsonValue]) -> tuple[Pair, ...]:
    found = body["areas"]
    if not isinstance(found, list) or not 1 <= len(found) <= AREAS_MOST:
        raise ValueError("a proposal is about 1 to 1,000 areas")
    areas = []
    for each in found:
        if not isinstance(each, dict) or not isinstance(each["owner"], str):
            raise TypeError("an area is no object")
        areas.append((word(each, "kind"), each["owner"]))
    return tuple(areas)
