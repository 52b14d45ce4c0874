"""Reading revisions and proposals with somebody's eyes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from broker.core.control.activations import Activated
from broker.core.control.desk import ControlDesk
from broker.core.rulebook.difference import Change, How, compare
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.proposals import Begun, Pair, Proposal, Signed, Standing, standing
from broker.core.rulebook.scope import View
from broker.core.rulebook.syntax import ParseModule, remembering
from broker.errors import EntenteError, Reason, RulebookRefused, StorageUnavailable
from broker.model.rulebook import Revision
from broker.ports.rulebook_store import RulebookStore

_CLOSED = (Standing.REJECTED, Standing.ACTIVATED)
_COMPARING_MOST = 2
"""Comparisons at a time, each of which parses modules in a thread that others wait for."""
_IDS_MOST = 10_000
_KEPT_BYTES = 64 << 20
"""The largest revision that is kept in memory while it is in force."""
_WALK_MOST = 1_000
"""Activations that are looked at for one answer to somebody who sees a part of each."""


@dataclass(frozen=True, slots=True)
class ShownProposal:
    """A proposal as somebody sees it. findings: None until it is checked. missing, changes: where they were asked for."""

    proposal: Proposal
    revision: str
    parent: str
    areas: tuple[Pair, ...]
    standing: Standing
    findings: tuple[Finding, ...] | None
    approvals: tuple[Signed, ...]
    missing: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """That a revision came into force. activator, proposal: None where there was none, or it is not shown."""

    revision: str
    activated: Activated
    activator: Pair | None
    proposal: Proposal | None
    approvals: tuple[Signed, ...]
    manifests: tuple[bytes, ...]


class RulebookLibrary:
    """Every method may raise EntenteError STORAGE_UNAVAILABLE; what a view does not show is not found."""

    def __init__(self, store: RulebookStore, control: ControlDesk, parse: ParseModule) -> None:
        self._store = store
        self._control = control
        self._parse = parse
        self._ids: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._newest: Revision | None = None
        self._comparing = asyncio.Semaphore(_COMPARING_MOST)

    @property
    def in_force(self) -> str:
        """The id of the revision in force."""
        revision = self._control.state.activations.revision
        if revision is None:
            raise EntenteError(Reason.INTERNAL)
        return revision

    def find(self, view: View, proposal_id: str) -> Proposal:
        """A proposal that concerns whoever looks; raises PROPOSAL_NOT_FOUND."""
        found = self._control.state.proposals.by_id.get(proposal_id)
        if found is None or not view.concerns(found):
            raise EntenteError(Reason.PROPOSAL_NOT_FOUND, proposal_id)
        return found

    def standing(self, proposal: Proposal) -> Standing:
        """Where a proposal stands now."""
        return standing(proposal, self._control.state.activations)

    def require_not_closed(self, proposal: Proposal) -> None:
        """Raises PROPOSAL_CLOSED for one that was rejected or activated."""
        if (found := self.standing(proposal)) in _CLOSED:
            raise EntenteError(Reason.PROPOSAL_CLOSED, str(found))

    async def shown(self, view: View, proposal: Proposal) -> ShownProposal:
        """The proposal without what is missing and what it changes."""
        check = proposal.check
        return ShownProposal(
            proposal=proposal,
            revision=await self.id_for(view, proposal.revision),
            parent=await self.id_for(view, proposal.parent),
            areas=view.areas(proposal),
            standing=self.standing(proposal),
            findings=None if check is None else tuple(view.findings(check)),
            approvals=_approvals(view, proposal),
        )

    async def listed(self, view: View, *, closed: bool, most: int) -> list[ShownProposal]:
        """Proposals that concern whoever looks, the newest first."""
        found: list[ShownProposal] = []
        for proposal in reversed(list(self._control.state.proposals.by_id.values())):
            if len(found) == most:
                break
            if view.concerns(proposal) and (closed or self.standing(proposal) not in _CLOSED):
                found.append(await self.shown(view, proposal))
        return found

    async def changes(self, view: View, old_id: str, new_id: str) -> tuple[Change, ...]:
        """What is different between two revisions that are there, by what is shown of each."""
        old, new = await self.revision(old_id), await self.revision(new_id)
        async with self._comparing:
            return await asyncio.to_thread(_compared, view, old, new, remembering(self._parse))

    async def log(self, view: View, most: int) -> list[LogEntry]:
        """What was in force, the newest first; where two in a row look the same, the older one."""
        entries: list[LogEntry] = []
        async for activated, shown_id in self._runs(view):
            if len(entries) == most:
                break
            entries.append(await self._entry(view, activated, shown_id))
        return entries

    async def since_ms(self, view: View) -> int:
        """Since when what is shown of the revision in force is as it is."""
        async for activated, _ in self._runs(view):
            return activated.time_ms
        raise EntenteError(Reason.INTERNAL)

    async def resolve(self, view: View, shown_id: str) -> str:
        """The revision's own id for one that was shown; "" is what is in force. Raises REVISION_NOT_FOUND."""
        if shown_id in ("", await self.id_for(view, self.in_force)):
            return self.in_force
        if view.agency is None:
            if shown_id in await self._stored():
                return shown_id
        else:
            async for activated, found in self._runs(view):
                if found == shown_id:
                    return activated.revision
            for each in self._control.state.proposals.by_id.values():
                if view.concerns(each) and await self.id_for(view, each.revision) == shown_id:
                    return each.revision
        raise EntenteError(Reason.REVISION_NOT_FOUND, shown_id)

    async def revision(self, revision_id: str) -> Revision:
        """A stored revision; raises REVISION_NOT_FOUND."""
        newest = self._newest
        if newest is not None and newest.id == revision_id:
            return newest
        try:
            found = await self._store.get(revision_id)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        except ValueError:
            found = None
        if found is None:
            raise EntenteError(Reason.REVISION_NOT_FOUND, revision_id)
        if revision_id == self.in_force and sum(map(len, found.files.values())) <= _KEPT_BYTES:
            self._newest = found
        return found

    async def id_for(self, view: View, revision_id: str) -> str:
        """The id under which whoever looks knows a revision."""
        if view.agency is None:
            return revision_id
        key = (revision_id, view.agency)
        if key not in self._ids:
            part = await asyncio.to_thread(view.part, await self.revision(revision_id))
            self._ids[key] = part.id
            if len(self._ids) > _IDS_MOST:
                self._ids.popitem(last=False)
        return self._ids[key]

    async def _runs(self, view: View) -> AsyncIterator[tuple[Activated, str]]:
        """The beginning of each run of activations that look the same, the newest first, with the id shown of it."""
        begun: tuple[Activated, str] | None = None
        for activated in reversed(self._control.state.activations.history[-_WALK_MOST:]):
            shown_id = await self.id_for(view, activated.revision)
            if begun is not None and (view.agency is None or begun[1] != shown_id):
                yield begun
            begun = activated, shown_id
        if begun is not None:
            yield begun

    async def _entry(self, view: View, activated: Activated, shown_id: str) -> LogEntry:
        begun = self._control.state.proposals.begun.get(activated.activation, Begun(None, None))
        proposal = begun.proposal
        if view.agency is not None and (proposal is None or not view.concerns(proposal)):
            return LogEntry(shown_id, activated, None, None, (), ())
        try:
            notes = await self._store.manifests(activated.revision) if view.agency is None else ()
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        approvals = () if proposal is None else _approvals(view, proposal)
        return LogEntry(shown_id, activated, begun.by, proposal, approvals, tuple(notes))

    async def _stored(self) -> Sequence[str]:
        try:
            return await self._store.list()
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None


def _approvals(view: View, proposal: Proposal) -> tuple[Signed, ...]:
    """Who else approves would tell whose part it is about as well."""
    people = (view.agency, proposal.author[0])
    return tuple(each for each in proposal.approvals if view.agency is None or each.by[0] in people)


def _compared(view: View, old: Revision, new: Revision, parse: ParseModule) -> tuple[Change, ...]:
    """File by file where one of them cannot be read, as of a proposal that was refused for it."""
    old, new = view.part(old), view.part(new)
    try:
        return compare(old, new, parse)
    except RulebookRefused:
        return tuple(_files(old, new))


def _files(old: Revision, new: Revision) -> Iterator[Change]:
    for path in sorted({*old.files, *new.files}):
        if old.files.get(path) != new.files.get(path):
            how = (
                How.ADDED if path not in old.files else How.REMOVED if path not in new.files else How.CHANGED
            )
            yield Change("file", path, how, None, path, None)
