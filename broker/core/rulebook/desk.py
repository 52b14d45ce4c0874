"""What becomes of proposals: approved, rejected, activated. Evidence comes first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.core.administer import AdminAccess, Verb
from broker.core.control.desk import ControlDesk, Enacted
from broker.core.control.fold import EventVoid
from broker.core.decide import Ruling
from broker.core.rulebook.entries import ChangeEntries, by, require_text
from broker.core.rulebook.library import RulebookLibrary, ShownProposal
from broker.core.rulebook.proposals import Pair, Proposal, Standing
from broker.core.rulebook.scope import View
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal

_ASK = "ask the exchange's administrators"
_MISSING = "approval-missing: "
_UNCHECKED = {
    Standing.CHECKING: "it is being checked, look again in a moment",
    Standing.REFUSED: "the checks found errors, propose another version of it",
}


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activation came to, as it is shown. took_ms: until nothing older could be released."""

    revision: str
    took_ms: float
    fenced: tuple[str, ...]


class RulebookDesk:
    """Used from one event loop; every method raises EntenteError, see the service Rulebook."""

    def __init__(
        self,
        *,
        access: AdminAccess,
        control: ControlDesk,
        library: RulebookLibrary,
        entries: ChangeEntries,
    ) -> None:
        self._access = access
        self._control = control
        self._library = library
        self._entries = entries

    async def view(self, principal: Principal) -> View:
        """Whose eyes the principal has. Raises ADMINISTRATION_DENIED for who administers nothing."""
        return View((await self._access.scope(principal)).agency)

    async def shown(self, principal: Principal, view: View, proposal_id: str) -> ShownProposal:
        """A proposal with what is missing for its activation."""
        proposal = self._library.find(view, proposal_id)
        shown = await self._library.shown(view, proposal)
        return replace(shown, missing=await self._missing(principal, view, proposal))

    async def get(self, principal: Principal, proposal_id: str) -> ShownProposal:
        """A proposal with what it would change, and what is missing for its activation."""
        view = await self.view(principal)
        proposal = self._library.find(view, proposal_id)
        shown = await self._library.shown(view, proposal)
        changes = await self._library.changes(view, proposal.parent, proposal.revision)
        return replace(shown, changes=changes, missing=await self._missing(principal, view, proposal))

    async def approve(self, principal: Principal, proposal_id: str, revision: str) -> ShownProposal:
        """Approve the version of a proposal that has this revision, as it was shown."""
        view = await self.view(principal)
        proposal = self._library.find(view, proposal_id)
        self._require_open(proposal)
        if revision != await self._library.id_for(view, proposal.revision):
            raise EntenteError(Reason.PROPOSAL_CHANGED)
        rulings = await self._require_approver(principal, proposal)
        if _person(principal) not in [each.by for each in proposal.approvals]:
            await self._entries.tell(principal, "approved", proposal, rulings)
            body: dict[str, JsonValue] = {"revision": proposal.revision, "by": by(principal)}
            await self._record("approved", proposal, body)
        return await self.shown(principal, view, proposal_id)

    async def reject(self, principal: Principal, proposal_id: str, reason: str) -> ShownProposal:
        """Close a proposal."""
        view = await self.view(principal)
        require_text(reason, "reason")
        proposal = self._library.find(view, proposal_id)
        self._library.require_not_closed(proposal)
        rulings = await self._require(principal, "reject", proposal)
        await self._entries.tell(principal, "rejected", proposal, rulings, reason=reason)
        await self._record("rejected", proposal, {"reason": reason, "by": by(principal)})
        return await self._library.shown(view, self._library.find(view, proposal_id))

    async def activate(self, principal: Principal, proposal_id: str) -> Activation:
        """Put an approved proposal in force everywhere; returns when nothing older can be released."""
        view = await self.view(principal)
        proposal = self._library.find(view, proposal_id)
        shown_id = await self._library.id_for(view, proposal.revision)
        newest = self._control.state.activations.history[-1]
        if newest.proposal == proposal.id:
            return _shown(view, shown_id, await self._control.confirmed(newest.position))
        self._require_open(proposal)
        rulings = await self._require_approved(principal, view, proposal)
        what = "rolled_back" if proposal.rollback else "activated"
        await self._entries.tell(principal, what, proposal, rulings)
        # Others may have been quicker while the ledger was written.
        if self._library.find(view, proposal_id) != proposal:
            raise EntenteError(Reason.PROPOSAL_CHANGED)
        self._require_open(proposal)
        try:
            enacted = await self._control.activate(
                proposal.revision, by=by(principal), proposal=proposal.id, rollback=proposal.rollback
            )
        except EntenteError as error:
            await self._entries.tell(principal, "abandoned", proposal, (), cause=str(error))
            # Instances' causes tell of the whole rulebook.
            raise error if view.agency is None else EntenteError(error.reason, _ASK) from None
        return _shown(view, shown_id, enacted)

    def _require_open(self, proposal: Proposal) -> None:
        """Raises PROPOSAL_CLOSED, PROPOSAL_STALE or PROPOSAL_UNCHECKED."""
        self._library.require_not_closed(proposal)
        found = self._library.standing(proposal)
        if found is Standing.STALE:
            raise EntenteError(Reason.PROPOSAL_STALE)
        if found in _UNCHECKED:
            raise EntenteError(Reason.PROPOSAL_UNCHECKED, _UNCHECKED[found])

    async def _require(self, principal: Principal, verb: Verb, proposal: Proposal) -> tuple[Ruling, ...]:
        return await self._access.require(
            principal, verb, proposal.areas, proposal.author, [each.by for each in proposal.approvals]
        )

    async def _require_approver(self, principal: Principal, proposal: Proposal) -> tuple[Ruling, ...]:
        """Raises ADMINISTRATION_DENIED, and PROPOSAL_OWN where the rulebook says that it is this."""
        try:
            return await self._require(principal, "approve", proposal)
        except EntenteError as error:
            if error.reason is Reason.ADMINISTRATION_DENIED and _person(principal) == proposal.author:
                raise EntenteError(Reason.PROPOSAL_OWN, decisions=error.decisions) from None
            raise

    async def _require_approved(
        self, principal: Principal, view: View, proposal: Proposal
    ) -> tuple[Ruling, ...]:
        """Raises APPROVAL_MISSING if it is only that, else ADMINISTRATION_DENIED."""
        try:
            return await self._require(principal, _activating(proposal), proposal)
        except EntenteError as error:
            if error.reason is not Reason.ADMINISTRATION_DENIED:
                raise
            missing = await self._missing(principal, view, proposal)
            if missing and all(each.startswith(_MISSING) for each in missing):
                whose = ", ".join(each.removeprefix(_MISSING) for each in missing)
                raise EntenteError(Reason.APPROVAL_MISSING, whose, decisions=error.decisions) from None
            raise

    async def _missing(self, principal: Principal, view: View, proposal: Proposal) -> tuple[str, ...]:
        """What keeps the principal from activating it; of others' approvals an agency is told only that there is one."""
        if self._library.standing(proposal) is not Standing.OPEN:
            return ()
        approvals = [each.by for each in proposal.approvals]
        verb = _activating(proposal)
        found = await self._access.missing(principal, verb, proposal.areas, proposal.author, approvals)
        if view.agency is None:
            return found
        own = f"{_MISSING}{view.agency}"
        told = {
            each if each == own or not each.startswith(_MISSING) else f"{_MISSING}others" for each in found
        }
        return tuple(sorted(told))

    async def _record(self, kind: str, proposal: Proposal, body: dict[str, JsonValue]) -> None:
        try:
            await self._control.record(kind, {"proposal": proposal.id, **body})
        except EventVoid:
            raise EntenteError(Reason.PROPOSAL_CHANGED) from None


def _shown(view: View, shown_id: str, enacted: Enacted) -> Activation:
    return Activation(shown_id, enacted.took_ms, enacted.fenced if view.agency is None else ())


def _activating(proposal: Proposal) -> Verb:
    return "rollback" if proposal.rollback else "activate"


def _person(principal: Principal) -> Pair:
    return principal.agency, principal.subject
