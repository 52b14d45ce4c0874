"""Explaining on a broker: what an old revision, the engine's silence, and many who ask at once come to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from broker.core.administer import AdminAccess
from broker.core.audit.readings import Readings
from broker.core.audit.view import Scope
from broker.core.explain.desk import ExplainDesk
from broker.core.explain.explainer import Explainer, Known
from broker.core.explain.model import Explanation
from broker.core.explain.question import MadeUp
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.scope import View
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal, SubjectClass
from broker.model.rulebook import Revision
from tests.fakes.auditing import AUDITOR, administrator
from tests.fakes.clock import TurnedClock
from tests.fakes.regimes import in_force, registry

OLD = Revision("sha256:old", {"data/vocabulary/data.yaml": b"words: of another version\n"}, False)
ASKED = MadeUp(SubjectClass("beta", (), (), "rescue"), "alerts", revision=OLD.id)


@dataclass
class Fakes:
    """Everything around the desk. denied: everybody has lost its rights by now. asked: by agency, in order."""

    denied: bool = False
    asked: list[str | None] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def scope(self, principal: Principal, verb: str) -> Scope:
        if self.denied:
            raise EntenteError(Reason.ADMINISTRATION_DENIED)
        return Scope(None if principal.agency == "exchange" else principal.agency)

    async def account(self, principal: Principal, method: str, about: dict[str, JsonValue]) -> None:
        pass

    async def explain(
        self, known: Known, item: dict[str, JsonValue], view: View, time_ms: int
    ) -> Explanation:
        self.asked.append(view.agency)
        await self.answer.wait()
        return Explanation(OLD.id, item, None, (), (), ())

    async def id_for(self, view: View, revision_id: str) -> str:
        return revision_id

    async def resolve(self, view: View, shown_id: str) -> str:
        return shown_id

    async def revision(self, revision_id: str) -> Revision:
        return OLD

    def desk(self) -> ExplainDesk:
        return ExplainDesk(
            in_force=in_force(),
            access=cast(AdminAccess, self),
            library=cast(RulebookLibrary, self),
            readings=cast(Readings, self),
            explainer=cast(Explainer, self),
            clock=TurnedClock(),
        )


async def test_a_revision_that_could_not_be_in_force_any_more_is_not_found() -> None:
    """As one of another version of the exchange, which replay treats alike."""
    with pytest.raises(EntenteError) as failed:
        await Fakes().desk().made_up(AUDITOR, ASKED)
    assert failed.value.reason is Reason.REVISION_NOT_FOUND


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(revision: Revision) -> Known:
        return Known(revision, registry())

    monkeypatch.setattr(Known, "read", read)


@pytest.mark.usefixtures("readable")
async def test_an_agency_asks_one_question_at_a_time_and_two_agencies_are_answered_at_once() -> None:
    fakes = Fakes()
    desk = fakes.desk()
    asking = [asyncio.create_task(desk.made_up(administrator(agency), ASKED)) for agency in ("a", "b", "c")]
    await asyncio.sleep(0.01)
    assert fakes.asked == ["a", "b"]
    for busy in ("a", "c"):
        with pytest.raises(EntenteError) as failed:
            await desk.made_up(administrator(busy), ASKED)
        assert failed.value.reason is Reason.LIMIT_EXCEEDED
    fakes.answer.set()
    assert all(await asyncio.gather(*asking))
    assert await desk.made_up(administrator("a"), ASKED)
    assert fakes.asked == ["a", "b", "c", "a"]


@pytest.mark.usefixtures("readable")
async def test_whoever_stops_waiting_leaves_its_place() -> None:
    fakes = Fakes()
    desk = fakes.desk()
    left = asyncio.create_task(desk.made_up(AUDITOR, ASKED))
    await asyncio.sleep(0.01)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    fakes.answer.set()
    assert await desk.made_up(AUDITOR, ASKED)


@pytest.mark.usefixtures("readable")
async def test_whose_rights_end_meanwhile_is_shown_nothing() -> None:
    fakes = Fakes()
    asking = asyncio.create_task(fakes.desk().made_up(AUDITOR, ASKED))
    await asyncio.sleep(0.01)
    fakes.denied = True
    fakes.answer.set()
    with pytest.raises(EntenteError) as failed:
        await asking
    assert failed.value.reason is Reason.POLICY_UNAVAILABLE
