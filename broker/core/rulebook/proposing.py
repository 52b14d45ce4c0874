"""Proposing a change of the rulebook of a running exchange: accounted for, stored, announced, checked, in this order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from broker.core.administer import AdminAccess
from broker.core.control.desk import ControlDesk
from broker.core.control.fold import EventVoid
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.core.rulebook.checking import Checking
from broker.core.rulebook.desk import RulebookDesk
from broker.core.rulebook.entries import ChangeEntries, by, require_text
from broker.core.rulebook.keeping import Keeper
from broker.core.rulebook.library import RulebookLibrary, ShownProposal
from broker.core.rulebook.proposals import Proposal
from broker.core.rulebook.scope import View
from broker.core.rulebook.submission import Submission, read_submission, submission_of
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal

_ID_BYTES = 5


@dataclass(frozen=True, slots=True)
class Heading:
    """What a proposal is for. base: the revision that was edited, as it was shown; proposal: whose next version it is."""

    message: str
    base: str = ""
    proposal: str = ""


class ProposingDesk:
    """Used from one event loop; every method raises EntenteError, see the service Rulebook."""

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        access: AdminAccess,
        control: ControlDesk,
        library: RulebookLibrary,
        desk: RulebookDesk,
        entries: ChangeEntries,
        keeper: Keeper,
        checking: Checking,
    ) -> None:
        self._in_force = in_force
        self._access = access
        self._control = control
        self._library = library
        self._desk = desk
        self._entries = entries
        self._keeper = keeper
        self._checking = checking

    async def propose(
        self, principal: Principal, heading: Heading, archive: Path
    ) -> AsyncGenerator[ShownProposal, None]:
        """The proposal once it is stored, and again once it is checked; archive: a file with what was sent."""
        view = await self._desk.view(principal)
        require_text(heading.message, "message")
        if heading.base and heading.base != await self._library.id_for(view, self._library.in_force):
            raise EntenteError(Reason.PROPOSAL_STALE)
        if heading.proposal:
            self._require_next_version(principal, self._library.find(view, heading.proposal))
        with ExitStack() as place:
            place.enter_context(self._checking.place(principal.agency))
            present = await self._library.revision(self._library.in_force)
            registry = self._in_force.present.regime.registry
            submission = await asyncio.to_thread(read_submission, present, registry, view, archive)
            async for shown in self._submit(principal, view, heading, submission, place):
                yield shown

    async def rollback(
        self, principal: Principal, revision: str, message: str
    ) -> AsyncGenerator[ShownProposal, None]:
        """As `propose`, of a revision that was in force; "": the newest other one."""
        view = await self._desk.view(principal)
        require_text(message, "message")
        if view.agency is not None:
            await self._access.require(principal, "rollback")
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        with ExitStack() as place:
            place.enter_context(self._checking.place(principal.agency))
            present = await self._library.revision(self._library.in_force)
            earlier = await self._library.revision(self._earlier(revision))
            registry = self._in_force.present.regime.registry
            submission = await asyncio.to_thread(submission_of, present, registry, earlier)
            heading = Heading(message)
            async for shown in self._submit(principal, view, heading, submission, place, rollback=True):
                yield shown

    async def _submit(
        self,
        principal: Principal,
        view: View,
        heading: Heading,
        submission: Submission,
        place: ExitStack,
        *,
        rollback: bool = False,
    ) -> AsyncGenerator[ShownProposal, None]:
        """Account, store, announce, check; `place` is held until it is checked, whoever still listens."""
        rulings = await self._access.require(principal, "propose", submission.areas)
        proposal_id = heading.proposal or secrets.token_hex(_ID_BYTES)
        areas: list[JsonValue] = [{"kind": kind, "owner": owner} for kind, owner in submission.areas]
        body: dict[str, JsonValue] = {
            "revision": submission.proposed.id,
            "parent": submission.present.id,
            "message": heading.message,
            "areas": areas,
            "rollback": rollback,
        }
        change = {"what": "proposed", "proposal": proposal_id, **body}
        await self._entries.write(principal, change, rulings)
        await self._keeper.keep(submission, (principal.agency, principal.subject), heading.message)
        body = {"proposal": proposal_id, "by": by(principal), **body}
        try:
            await self._control.record("proposed", body)
        except EventVoid:
            raise EntenteError(Reason.PROPOSAL_CHANGED) from None
        proposal = self._library.find(view, proposal_id)
        checked = self._checking.start(principal, proposal, submission, view.agency, place.pop_all())
        yield await self._library.shown(view, proposal)
        await asyncio.shield(checked)
        yield await self._desk.shown(principal, view, proposal_id)

    def _earlier(self, revision: str) -> str:
        """A revision that was in force and is not. Raises REVISION_NOT_FOUND, RULEBOOK_UNCHANGED."""
        present = self._library.in_force
        if revision == present:
            raise EntenteError(Reason.RULEBOOK_UNCHANGED)
        for activated in reversed(self._control.state.activations.history):
            if activated.revision == revision or (not revision and activated.revision != present):
                return activated.revision
        raise EntenteError(Reason.REVISION_NOT_FOUND, revision or "(an earlier one)")

    def _require_next_version(self, principal: Principal, proposal: Proposal) -> None:
        self._library.require_not_closed(proposal)
        if proposal.author[0] != principal.agency:
            raise EntenteError(Reason.PROPOSAL_NOT_FOUND, proposal.id)
