"""Proposing a change of the rulebook of a running exchange: accounted for, stored, announced, checked, in this order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
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
from broker.model.registry import Registry
from broker.model.rulebook import Revision

_ID_BYTES = 5


@dataclass(frozen=True, slots=True)
class Heading:
    """What a proposal is for. base: the revision that was edited, as it was shown; proposal: whose next version it is."""

    message: str
    base: str = ""
    proposal: str = ""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What somebody proposes."""

    principal: Principal
    view: View
    heading: Heading
    submission: Submission
    rollback: bool = False

    def body(self) -> dict[str, JsonValue]:
        """As the ledger and the control log hold it."""
        areas: list[JsonValue] = [{"kind": kind, "owner": owner} for kind, owner in self.submission.areas]
        return {
            "revision": self.submission.proposed.id,
            "parent": self.submission.present.id,
            "message": self.heading.message,
            "areas": areas,
            "rollback": self.rollback,
        }


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
        self._accepting: set[asyncio.Task[tuple[Proposal, asyncio.Task[None]]]] = set()

    @asynccontextmanager
    async def place(self, principal: Principal) -> AsyncIterator[ExitStack]:
        """A place among the proposals that are checked, for `propose`; to be taken before anything is received.

        Raises ADMINISTRATION_DENIED for who administers nothing, and LIMIT_EXCEEDED.
        """
        view = await self._desk.view(principal)
        with ExitStack() as place:
            place.enter_context(self._checking.place(principal.agency, sees_all=view.agency is None))
            yield place

    async def propose(
        self, principal: Principal, heading: Heading, archive: Path, place: ExitStack
    ) -> AsyncGenerator[ShownProposal, None]:
        """The proposal once it is stored, and again once it is checked; archive: a file with what was sent."""
        view = await self._desk.view(principal)
        require_text(heading.message, "message")
        if heading.base and heading.base != await self._library.id_for(view, self._library.in_force):
            raise EntenteError(Reason.PROPOSAL_STALE)
        if heading.proposal:
            self._require_next_version(principal, self._library.find(view, heading.proposal))
        present, registry = await self._present()
        submission = await asyncio.to_thread(read_submission, present, registry, view, archive)
        async for shown in self._submit(_Offer(principal, view, heading, submission), place):
            yield shown

    async def rollback(
        self, principal: Principal, revision: str, message: str, place: ExitStack
    ) -> AsyncGenerator[ShownProposal, None]:
        """As `propose`, of a revision that was in force; "": the newest other one."""
        view = await self._desk.view(principal)
        require_text(message, "message")
        if view.agency is not None:
            await self._access.require(principal, "rollback")
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        present, registry = await self._present()
        earlier = await self._library.revision(self._earlier(revision))
        submission = await asyncio.to_thread(submission_of, present, registry, earlier)
        offer = _Offer(principal, view, Heading(message), submission, rollback=True)
        async for shown in self._submit(offer, place):
            yield shown

    async def settle(self, instance: str) -> None:
        """Once this instance takes part: end what its run before had begun."""
        await self._checking.settle(instance)

    async def close(self) -> None:
        """Finish what is being accepted, and end the checks."""
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await self._checking.close()

    async def _present(self) -> tuple[Revision, Registry]:
        """The revision in force here and what it registers, of one order."""
        regime = self._in_force.present.regime
        return await self._library.revision(regime.rules.revision), regime.registry

    async def _submit(self, offer: _Offer, place: ExitStack) -> AsyncGenerator[ShownProposal, None]:
        """Whoever stops listening ends nothing of it; the place is held until the checks are over."""
        accepting = asyncio.get_running_loop().create_task(self._accept(offer, place.pop_all()))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepting.discard)
        accepting.add_done_callback(lambda done: done.cancelled() or done.exception())
        proposal, checked = await asyncio.shield(accepting)
        yield await self._library.shown(offer.view, proposal)
        await asyncio.shield(checked)
        yield await self._desk.shown(offer.principal, offer.view, proposal.id)

    async def _accept(self, offer: _Offer, place: ExitStack) -> tuple[Proposal, asyncio.Task[None]]:
        """Account, store, announce, and begin the checks."""
        principal, heading, submission = offer.principal, offer.heading, offer.submission
        with place:
            rulings = await self._access.require(principal, "propose", submission.areas)
            proposal_id = heading.proposal or secrets.token_hex(_ID_BYTES)
            body = offer.body()
            change = {"what": "proposed", "proposal": proposal_id, **body}
            await self._entries.write(principal, change, rulings)
            await self._keeper.keep(submission, (principal.agency, principal.subject), heading.message)
            event = {"proposal": proposal_id, "by": by(principal), **body}
            try:
                position = await self._control.record("proposed", event)
            except EventVoid:
                raise EntenteError(Reason.PROPOSAL_CHANGED) from None
            proposal = self._library.find(offer.view, proposal_id)
            if proposal.position != position:
                # Another instance took another version meanwhile: what is found about this one says nothing of that.
                raise EntenteError(Reason.PROPOSAL_CHANGED)
            agency = offer.view.agency
            return proposal, self._checking.start(principal, proposal, submission, agency, place.pop_all())

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
