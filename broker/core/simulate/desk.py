"""Simulating proposals of a running exchange, for those who may see them, each with its own eyes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from broker.core.administer import AdminAccess
from broker.core.evidence import Evidence, who
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.proposals import Proposal, Standing
from broker.core.rulebook.scope import View
from broker.core.simulate.traffic import MOST_LAST
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.rulebook import Revision
from broker.ports.clock import Clock
from protos.entente.v1.rulebook_pb2 import SimulateResponse

SINCE_MS = 7 * 86_400_000
"""How far back recorded decisions count if nobody says."""


@dataclass(frozen=True, slots=True)
class SimulationQuestion:
    """A proposal's id, and which recorded decisions count; since_ms None and last 0: those of the last seven days."""

    proposal: str
    since_ms: int | None = None
    last: int = 0


@dataclass(frozen=True, slots=True)
class SimulationJob:
    """What is simulated, and for whom.

    owner: whose records it is about, None for all. agency: whose examples are shown. since_ms, last: as TrafficReader.
    """

    present: Revision
    proposed: Revision
    owner: str | None
    agency: str
    since_ms: int | None
    last: int | None
    now_ms: int


class Simulator(Protocol):
    """Simulates, in a process of its own: proposed rules are not trusted, and there may be much to read."""

    def simulate(self, job: SimulationJob) -> AsyncGenerator[SimulateResponse, None]:
        """Progress, the summary, rows, as far as the job's owner may see them. Close it if it is not read to the end.

        Raises EntenteError SIMULATION_FAILED.
        """


class SimulationDesk:
    """Used from one event loop; raises EntenteError, see Rulebook.Simulate."""

    def __init__(
        self,
        *,
        access: AdminAccess,
        library: RulebookLibrary,
        evidence: Evidence,
        simulator: Simulator,
        clock: Clock,
    ) -> None:
        self._access = access
        self._library = library
        self._evidence = evidence
        self._simulator = simulator
        self._clock = clock
        self._turn = asyncio.Lock()

    async def simulate(
        self, principal: Principal, question: SimulationQuestion
    ) -> AsyncGenerator[SimulateResponse, None]:
        """What the proposal would do, as far as the principal may still know it then; close it if not read to its end."""
        scope = await self._access.scope(principal, "simulate")
        view = View(scope.agency)
        proposal = self._library.find(view, question.proposal)
        self._require_open(proposal)
        if question.last > MOST_LAST:
            raise EntenteError(Reason.REQUEST_INVALID, f"last is more than {MOST_LAST}")
        if self._turn.locked():
            raise EntenteError(Reason.LIMIT_EXCEEDED, "one simulation at a time")
        async with self._turn:
            job = await self._job(principal, view, proposal, question)
            await self._account(principal, job, question)
            before = await self._library.id_for(view, job.present.id)
            after = await self._library.id_for(view, job.proposed.id)
            async with aclosing(self._simulator.simulate(job)) as responses:
                async for response in responses:
                    if response.HasField("summary"):
                        if await self._access.scope(principal, "simulate") != scope:
                            raise EntenteError(Reason.POLICY_UNAVAILABLE)  # its eyes are others by now
                        # Under the ids by which the one who asks knows them.
                        response.summary.before, response.summary.after = before, after
                    yield response

    async def _job(
        self, principal: Principal, view: View, proposal: Proposal, question: SimulationQuestion
    ) -> SimulationJob:
        now_ms = self._clock.now_ms()
        last = question.last or None
        since_ms = question.since_ms
        if since_ms is None and last is None:
            since_ms = now_ms - SINCE_MS
        return SimulationJob(
            present=await self._library.revision(self._library.in_force),
            proposed=await self._library.revision(proposal.revision),
            owner=view.agency,
            agency=principal.agency,
            since_ms=since_ms,
            last=last,
            now_ms=now_ms,
        )

    async def _account(self, principal: Principal, job: SimulationJob, question: SimulationQuestion) -> None:
        """Who reads what the ledger holds is in the ledger before anything is answered."""
        about: JsonValue = {
            "proposal": question.proposal,
            "revision": job.proposed.id,
            "since_ms": job.since_ms,
            "last": job.last,
        }
        query: JsonValue = {"method": "Simulate", "about": about}
        await self._evidence.write("ledger_read", {"who": who(principal), "query": query})

    def _require_open(self, proposal: Proposal) -> None:
        """Raises PROPOSAL_CLOSED, PROPOSAL_STALE or PROPOSAL_UNCHECKED: what did not pass the checks is not run."""
        self._library.require_not_closed(proposal)
        found = self._library.standing(proposal)
        if found is Standing.STALE:
            raise EntenteError(Reason.PROPOSAL_STALE)
        if found is not Standing.OPEN:
            raise EntenteError(Reason.PROPOSAL_UNCHECKED, "it has to pass the checks first")
