"""What changing the rulebook needs besides: an agreement, a store and an examiner in memory, and who may administer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from broker.core.administer import AdminAccess, Pair
from broker.core.audit.view import Scope
from broker.core.checkpoint.note import Signer
from broker.core.control.desk import ControlDesk, Enacted
from broker.core.control.fold import EventVoid
from broker.core.control.state import ControlState
from broker.core.evidence import Evidence
from broker.core.rulebook.checking import Checking
from broker.core.rulebook.desk import RulebookDesk
from broker.core.rulebook.entries import ChangeEntries
from broker.core.rulebook.keeping import Keeper
from broker.core.rulebook.library import RulebookLibrary, ShownProposal
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.pack import pack
from broker.core.rulebook.proposals import Check
from broker.core.rulebook.proposing import Heading, ProposingDesk
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.scope import View
from broker.errors import EntenteError, Reason
from broker.model.control import ControlEvent
from broker.model.principal import Principal
from broker.model.rulebook import Revision, Rules
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import MemoryLedger
from tests.fakes.overlays import agency_admin, exchange_admin
from tests.fakes.regimes import in_force
from tests.fakes.rulebook import ROOT

__all__ = ["Proposing", "agency_admin", "exchange_admin"]


class Agreed:
    """The ControlDesk of one instance. before, after: called once, before or after an event of a kind is written."""

    def __init__(self, first: str) -> None:
        self.state = ControlState()
        self.events: list[ControlEvent] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.refusal: EntenteError | None = None
        self.activated: list[str] = []
        self.put("genesis", {"revision": first, "engine": "scripted 1", "administrators": []})

    def put(self, kind: str, body: Mapping[str, Any]) -> int:
        """Write an event, as another instance does. Raises EventVoid."""
        event, position = ControlEvent(kind, 1_000, "one", body), 10 * len(self.events)
        self.events.append(event)
        state = self.state.apply(event, position)
        if state is None:
            raise EventVoid(kind)
        self.state = state
        return position

    async def record(self, kind: str, body: Mapping[str, Any]) -> int:
        """See ControlDesk."""
        await asyncio.sleep(0)
        self.before.pop(kind, lambda: None)()
        position = self.put(kind, body)
        self.after.pop(kind, lambda: None)()
        return position

    async def activate(self, revision_id: str, *, by: Any, proposal: str | None, rollback: bool) -> Enacted:
        """See ControlDesk."""
        if self.refusal is not None:
            raise self.refusal
        self.activated.append(revision_id)
        return Enacted(self.switch(revision_id, by=by, proposal=proposal, rollback=rollback), (), 1.0)

    async def confirmed(self, position: int) -> Enacted:
        """See ControlDesk."""
        return Enacted(position, (), 0.5)

    def switch(self, revision: str, **more: Any) -> int:
        """Another revision comes into force."""
        base, activation = self.state.activations.number, f"a{self.state.activations.number}"
        about = {
            "by": {"agency": "exchange", "subject": "admin-1"},
            "proposal": None,
            "rollback": False,
            **more,
        }
        self.put(
            "preparing", {"activation": activation, "revision": revision, "base": base, "run": "r", **about}
        )
        return self.put("activated", {"activation": activation, "base": base})

    def kinds(self) -> list[str]:
        """Of the events so far, in order."""
        return [event.kind for event in self.events]


class Sides:
    """The AdminAccess of a rulebook in which each side that is touched approves by one other person."""

    async def require(
        self,
        principal: Principal,
        verb: str,
        areas: Sequence[Pair] = (),
        author: Pair | None = None,
        approvals: Sequence[Pair] = (),
        about: Any = None,
    ) -> tuple[()]:
        """See AdminAccess."""
        if self._reasons(principal, verb, areas, author, approvals):
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        return ()

    async def missing(
        self,
        principal: Principal,
        verb: str,
        areas: Sequence[Pair],
        author: Pair | None,
        approvals: Sequence[Pair],
    ) -> tuple[str, ...]:
        """See AdminAccess."""
        return self._reasons(principal, verb, areas, author, approvals)

    async def scope(self, principal: Principal, verb: str = "read") -> Scope:
        """See AdminAccess."""
        if not any(role.endswith("-admin") for role in principal.roles):
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        return Scope() if principal.agency == "exchange" else Scope(principal.agency)

    def _reasons(
        self,
        principal: Principal,
        verb: str,
        areas: Sequence[Pair],
        author: Pair | None,
        approvals: Sequence[Pair],
    ) -> tuple[str, ...]:
        sides = sorted({owner or "exchange" for _, owner in areas})
        if verb == "propose":
            return () if principal.agency in ("exchange", *sides) else ("not-yours",)
        if verb == "approve":
            return ("own-proposal",) if principal.key == author or principal.agency not in sides else ()
        if verb == "reject":
            return () if principal.agency in sides or principal.key == author else ("not-concerned",)
        approved = {agency for agency, subject in approvals if (agency, subject) != author}
        return tuple(f"approval-missing: {side}" for side in sides if side not in approved)


class MemoryRevisions:
    """The RulebookStore port."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.revisions: dict[str, Revision] = {}
        self.notes: dict[str, list[bytes]] = {}
        self._ledger = ledger

    async def put(self, revision: Revision) -> None:
        """See RulebookStore; what is stored was in the ledger before."""
        assert self._ledger.of("rulebook_changed"), "evidence comes first"
        self.revisions.setdefault(revision.id, revision)

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookStore."""
        return self.revisions.get(revision_id)

    async def list(self) -> Sequence[str]:
        """See RulebookStore."""
        return [*self.revisions]

    async def put_manifest(self, revision_id: str, note: bytes) -> None:
        """See RulebookStore."""
        self.notes.setdefault(revision_id, []).append(note)

    async def manifests(self, revision_id: str) -> Sequence[bytes]:
        """See RulebookStore."""
        return self.notes.get(revision_id, [])

    async def close(self) -> None:
        """See RulebookStore."""


class HeldExaminer:
    """Finds what it is told to, as soon as it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.begun = asyncio.Event()
        self.asked: list[tuple[str, str | None]] = []
        self.check = Check(True)

    async def examine(self, present: Revision, proposed: Revision, agency: str | None) -> Check:
        """See Examiner."""
        self.asked.append((proposed.id, agency))
        self.begun.set()
        await self.may.wait()
        return self.check


class Proposing:
    """The desks on one instance, with the default rulebook in force."""

    def __init__(self, folder: Path) -> None:
        self.first = first_revision()
        self.folder = folder
        clock = TurnedClock()
        self.ledger = MemoryLedger()
        self.store = MemoryRevisions(self.ledger)
        self.store.revisions[self.first.id] = self.first
        self.agreed = Agreed(self.first.id)
        self.examiner = HeldExaminer()
        rules = Rules(self.first.id, "scripted 1")
        force = in_force(None, parse_registry(self.first), rules=rules, clock=clock)
        access, control = cast(AdminAccess, Sides()), cast(ControlDesk, self.agreed)
        evidence = Evidence(self.ledger, clock, force)
        self.library = RulebookLibrary(self.store, control, _parse)
        entries = ChangeEntries(force, evidence)
        self.checking = Checking(self.examiner, control, evidence)
        self.desk = RulebookDesk(access=access, control=control, library=self.library, entries=entries)
        self.proposing = ProposingDesk(
            in_force=force,
            access=access,
            control=control,
            library=self.library,
            desk=self.desk,
            entries=entries,
            keeper=Keeper(self.store, Signer("test/rulebook", b"s" * 32), force, clock),
            checking=self.checking,
        )

    async def propose(
        self, principal: Principal, changed: Mapping[str, bytes], **heading: str
    ) -> list[ShownProposal]:
        """All that is answered to a proposal of what the principal sees, with some files changed."""
        return [shown async for shown in self.stream(principal, changed, **heading)]

    async def stream(self, principal: Principal, changed: Mapping[str, bytes], **heading: str) -> Any:
        """As `propose`, one after the other."""
        view = View(None if principal.agency == "exchange" else principal.agency)
        archive = self.folder / "sent.tar.gz"
        with archive.open("wb") as file:
            pack({**view.files(self.first), **changed}, file)
        about = Heading(heading.pop("message", "why"), **heading)
        async with self.proposing.place(principal) as place:
            async for shown in self.proposing.propose(principal, about, archive, place):
                yield shown

    def changes(self) -> list[str]:
        """What the ledger says of the rulebook, in order."""
        return [cast(Any, entry.body["change"])["what"] for entry in self.ledger.of("rulebook_changed")]


def first_revision() -> Revision:
    """The default rulebook with the keys that it names."""
    files = dict(read_rulebook(ROOT / "policy").files)
    for agency in ("ems", "exchange", "transport", "highway-patrol", "cyber-centre", "partner-cert"):
        files[f"keys/{agency}.jwks.json"] = b'{"keys":[]}'
    return revision_of(files)


def _parse(path: str, source: bytes) -> Any:
    raise ValueError(path)
