"""Looking at the rulebook of a running exchange: what is in force, what was, what is proposed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.core.administer import AdminAccess
from broker.core.control.desk import ControlDesk
from broker.core.control.members import Member
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.core.rulebook.difference import Change
from broker.core.rulebook.library import LogEntry, RulebookLibrary, ShownProposal
from broker.core.rulebook.proposals import Standing
from broker.core.rulebook.scope import View, own_folders, own_keys
from broker.model.principal import Principal

_OPEN = (Standing.CHECKING, Standing.OPEN, Standing.REFUSED, Standing.STALE)


@dataclass(frozen=True, slots=True)
class Status:
    """What is in force. instances: by name, whether a sign of life was heard lately; None where it is not shown."""

    revision: str
    engine: str
    since_ms: int
    open_proposals: int
    number: int = 0
    instances: Mapping[str, bool] | None = None
    activating: str = ""


@dataclass(frozen=True, slots=True)
class Pulled:
    """The files of a revision. own: what may be proposed of it, folders with "/" at the end; empty: all."""

    revision: str
    files: Mapping[str, bytes]
    own: tuple[str, ...]


class ReadingDesk:
    """Every method raises EntenteError; see the service Rulebook."""

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        access: AdminAccess,
        control: ControlDesk,
        library: RulebookLibrary,
        is_live: Callable[[Member], bool],
    ) -> None:
        self._in_force = in_force
        self._access = access
        self._control = control
        self._library = library
        self._is_live = is_live

    async def status(self, principal: Principal) -> Status:
        """What is in force, and where."""
        view = await self._view(principal)
        state, rules = self._control.state, self._in_force.present.regime.rules
        shown = Status(
            revision=await self._library.id_for(view, self._library.in_force),
            engine=rules.engine,
            since_ms=await self._library.since_ms(view),
            open_proposals=sum(
                view.concerns(each) and self._library.standing(each) in _OPEN
                for each in state.proposals.by_id.values()
            ),
        )
        if view.agency is not None:
            return shown
        pending = state.activations.pending
        return Status(
            shown.revision,
            shown.engine,
            shown.since_ms,
            shown.open_proposals,
            state.activations.number,
            {name: self._is_live(member) for name, member in sorted(state.members.present.items())},
            "" if pending is None else pending.revision,
        )

    async def proposals(self, principal: Principal, *, closed: bool, most: int) -> list[ShownProposal]:
        """Those that concern the principal, the newest first."""
        return await self._library.listed(await self._view(principal), closed=closed, most=most)

    async def log(self, principal: Principal, most: int) -> Sequence[LogEntry]:
        """What was in force, the newest first."""
        return await self._library.log(await self._view(principal), most)

    async def pull(self, principal: Principal, revision: str, proposal: str) -> Pulled:
        """The files of a revision, or of a proposal, that the principal may see."""
        view = await self._view(principal)
        if proposal:
            found = self._library.find(view, proposal).revision
        else:
            found = await self._library.resolve(view, revision)
        part = await asyncio.to_thread(view.part, await self._library.revision(found))
        own: tuple[str, ...] = ()
        if view.agency is not None:
            keys = own_keys(self._in_force.present.regime.registry, view.agency)
            own = (*own_folders(view.agency), *sorted(keys))
        return Pulled(part.id, part.files, own)

    async def diff(self, principal: Principal, old: str, new: str) -> tuple[Change, ...]:
        """What is different between two revisions; "": the one in force."""
        view = await self._view(principal)
        older, newer = await self._library.resolve(view, old), await self._library.resolve(view, new)
        return await self._library.changes(view, older, newer)

    async def _view(self, principal: Principal) -> View:
        return View((await self._access.scope(principal)).agency)
