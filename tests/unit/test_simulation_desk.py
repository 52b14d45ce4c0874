"""Simulating proposals on a broker: who may, what of, one at a time, and the ledger first; messages there and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from broker.cli.rulebook.simulation_answers import collected
from broker.core.administer import AdminAccess
from broker.core.audit.view import Scope
from broker.core.evidence import Evidence
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.proposals import Proposal, Standing
from broker.core.rulebook.scope import View
from broker.core.simulate.desk import SINCE_MS, SimulationDesk, SimulationJob, SimulationQuestion
from broker.core.simulate.model import Part, Simulation
from broker.core.simulate.run import Material, simulate
from broker.core.simulate.scope import scoped
from broker.errors import EntenteError, Reason
from broker.model.decision import KEEP, Decision, Effect, Treatment, TreatmentKind
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.rulebook import Revision
from broker.rpc.simulation_messages import ROWS, responses
from protos.entente.v1 import rulebook_pb2 as pb
from tests.fakes.clock import TurnedClock
from tests.fakes.simulated import MEDIC, delivery, granting, kind, publication, side, stored

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
PRESENT, PROPOSED = (Revision(f"sha256:{n:064x}", {}, False) for n in (1, 2))


@dataclass
class Fakes:
    """Everything around the desk. agency: whose administrator calls, None for who sees all, "" for nobody."""

    agency: str | None = None
    standing: Standing = Standing.OPEN
    entries: list[tuple[str, Mapping[str, JsonValue]]] = field(default_factory=list)
    jobs: list[SimulationJob] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    ended: int = 0

    async def scope(self, principal: Principal, verb: str) -> Scope:
        assert verb == "simulate"
        if self.agency == "":
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        return Scope(self.agency)

    def find(self, view: View, proposal_id: str) -> Proposal:
        if proposal_id != "p-1":
            raise EntenteError(Reason.PROPOSAL_NOT_FOUND, proposal_id)
        return cast(Proposal, _Proposal(PROPOSED.id))

    def require_not_closed(self, proposal: Proposal) -> None:
        if self.standing is Standing.REJECTED:
            raise EntenteError(Reason.PROPOSAL_CLOSED, "rejected")

    in_force = PRESENT.id

    async def revision(self, revision_id: str) -> Revision:
        return {each.id: each for each in (PRESENT, PROPOSED)}[revision_id]

    async def id_for(self, view: View, revision_id: str) -> str:
        return f"{revision_id} for {view.agency}"

    async def write(self, kind: str, body: Mapping[str, JsonValue]) -> None:
        assert not self.jobs, "the ledger comes first"
        self.entries.append((kind, body))

    async def simulate(self, job: SimulationJob) -> AsyncGenerator[pb.SimulateResponse, None]:
        self.jobs.append(job)
        try:
            yield pb.SimulateResponse(progress=pb.SimulationProgress(stage="deciding"))
            await self.answer.wait()
            yield pb.SimulateResponse(summary=pb.SimulationSummary(before=PRESENT.id, after=PROPOSED.id))
        finally:
            self.ended += 1

    def desk(self) -> SimulationDesk:
        library = cast(RulebookLibrary, _Library(self))
        return SimulationDesk(
            access=cast(AdminAccess, self),
            library=library,
            evidence=cast(Evidence, self),
            simulator=self,
            clock=TurnedClock(NOW_MS),
        )


@dataclass(frozen=True)
class _Proposal:
    revision: str


class _Library:
    """The library's `standing` is a method, and the fakes' a value."""

    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    def standing(self, proposal: Proposal) -> Standing:
        return self._fakes.standing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fakes, name)


def caller(agency: str = "exchange") -> Principal:
    return Principal(agency, "admin-1", ("exchange-admin",), (), {}, "t", NOW)


async def asked(desk: SimulationDesk, question: SimulationQuestion, agency: str = "exchange") -> list[Any]:
    async with aclosing(desk.simulate(caller(agency), question)) as found:
        return [each async for each in found]


async def test_the_ledger_names_who_asks_before_anything_is_read() -> None:
    fakes = Fakes()
    fakes.answer.set()
    told = await asked(fakes.desk(), SimulationQuestion("p-1"))
    ((entry_kind, body),) = fakes.entries
    assert entry_kind == "ledger_read"
    assert body["query"] == {
        "method": "Simulate",
        "about": {"proposal": "p-1", "revision": PROPOSED.id, "since_ms": NOW_MS - SINCE_MS, "last": None},
    }
    (job,) = fakes.jobs
    assert (job.present, job.proposed, job.owner, job.agency) == (PRESENT, PROPOSED, None, "exchange")
    assert (told[-1].summary.before, told[-1].summary.after) == (
        f"{PRESENT.id} for None",
        f"{PROPOSED.id} for None",
    )


async def test_an_agencys_administrators_simulate_their_own_part_under_its_own_ids() -> None:
    fakes = Fakes(agency="ems")
    fakes.answer.set()
    told = await asked(fakes.desk(), SimulationQuestion("p-1", last=100), "ems")
    (job,) = fakes.jobs
    assert (job.owner, job.agency, job.since_ms, job.last) == ("ems", "ems", None, 100)
    assert told[-1].summary.after == f"{PROPOSED.id} for ems"


@pytest.mark.parametrize(
    ("fakes", "question", "reason"),
    [
        (Fakes(agency=""), SimulationQuestion("p-1"), Reason.ADMINISTRATION_DENIED),
        (Fakes(agency=""), SimulationQuestion("absent"), Reason.ADMINISTRATION_DENIED),
        (Fakes(), SimulationQuestion("absent"), Reason.PROPOSAL_NOT_FOUND),
        (Fakes(standing=Standing.REJECTED), SimulationQuestion("p-1"), Reason.PROPOSAL_CLOSED),
        (Fakes(standing=Standing.STALE), SimulationQuestion("p-1"), Reason.PROPOSAL_STALE),
        (Fakes(standing=Standing.CHECKING), SimulationQuestion("p-1"), Reason.PROPOSAL_UNCHECKED),
        (Fakes(standing=Standing.REFUSED), SimulationQuestion("p-1"), Reason.PROPOSAL_UNCHECKED),
        (Fakes(), SimulationQuestion("p-1", last=1_000_001), Reason.REQUEST_INVALID),
    ],
)
async def test_what_is_refused_reads_nothing(
    fakes: Fakes, question: SimulationQuestion, reason: Reason
) -> None:
    with pytest.raises(EntenteError) as refused:
        await asked(fakes.desk(), question)
    assert refused.value.reason is reason
    assert not fakes.jobs and not fakes.entries


@pytest.mark.parametrize(
    ("agency", "reason"), [("", Reason.ADMINISTRATION_DENIED), ("exchange", Reason.POLICY_UNAVAILABLE)]
)
async def test_whose_rights_end_while_it_runs_is_shown_nothing(agency: str, reason: Reason) -> None:
    """It may take half an hour."""
    fakes = Fakes()
    told = fakes.desk().simulate(caller(), SimulationQuestion("p-1"))
    assert (await anext(told)).HasField("progress")
    fakes.agency = agency
    fakes.answer.set()
    with pytest.raises(EntenteError) as refused:
        await anext(told)
    assert refused.value.reason is reason
    assert fakes.ended == 1


async def test_one_at_a_time_and_one_that_is_left_makes_room() -> None:
    fakes = Fakes()
    desk = fakes.desk()
    first = desk.simulate(caller(), SimulationQuestion("p-1"))
    await anext(first)
    with pytest.raises(EntenteError) as refused:
        await asked(desk, SimulationQuestion("p-1"))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    await first.aclose()
    assert fakes.ended == 1, "what runs for somebody who has left is ended"
    fakes.jobs.clear()
    fakes.answer.set()
    assert len(await asked(desk, SimulationQuestion("p-1"))) == 2


async def _simulation() -> Simulation:
    from broker.core.simulate.stored import StoredReader
    from broker.core.simulate.traffic import TrafficReader

    traffic = TrafficReader()
    traffic.add([delivery(NOW_MS, MEDIC, {kind(): 7}, {kind("red"): 2}), publication(NOW_MS, kind(), ["a"])])
    held = StoredReader(NOW_MS)
    held.add("crash-reports", [stored(kind(releasableto=("ems",)), "b", 5)])
    before = Decision(
        Effect.RELEASE, {"pii": Treatment(TreatmentKind.MASK, 1, 2)}, ("delete",), not_before=NOW
    )
    after = Decision(Effect.RELEASE, {"pii": KEEP}, valid_until=datetime(2027, 1, 1, tzinfo=UTC))
    return await simulate(
        side(granting(before, "ems")),
        side(
            lambda item: (
                after if item["subject"]["agency"] in ("ems", "transport") else Decision(Effect.WITHHOLD)
            )
        ),  # type: ignore[index]
        Material(traffic.traffic(), held.stored, notes=("something was left out",)),
        NOW,
    )


async def test_messages_carry_a_simulation_whole() -> None:
    found = await _simulation()
    assert {row.part for row in found.rows} == set(Part)
    reaches = found.reaches * (ROWS // len(found.reaches) + 1)
    many = replace(found, rows=found.rows * (ROWS // len(found.rows) + 1), reaches=reaches)
    assert len(list(responses(many))) == 4, "two messages of the summary, and two of rows"
    for sent in (found, many, scoped(found, "highway-patrol"), scoped(found, "nobody")):

        async def received(sent: Simulation = sent) -> AsyncIterator[pb.SimulateResponse]:
            for each in responses(sent):
                yield pb.SimulateResponse.FromString(each.SerializeToString())

        back = await collected(received(), None)
        rows = tuple(
            replace(row, before=replace(row.before, fields={}), after=replace(row.after, fields={}))
            for row in sent.rows
        )
        assert back == replace(sent, scope=None, rows=rows)


async def test_an_answer_without_a_summary_is_none() -> None:
    async def nothing() -> AsyncIterator[pb.SimulateResponse]:
        yield pb.SimulateResponse(progress=pb.SimulationProgress(stage="deciding"))

    told: list[tuple[str, int | None]] = []
    assert await collected(nothing(), lambda at: told.append((at.stage, at.total))) is None
    assert told == [("deciding", None)]
