"""Explaining on a broker: what an old revision, the engine's silence, and many who ask at once come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from broker.core.administer import AdminAccess
from broker.core.audit.readings import Readings
from broker.core.audit.view import Scope
from broker.core.explain.desk import ExplainDesk
from broker.core.explain.explainer import Explainer
from broker.core.explain.question import MadeUp
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.scope import View
from broker.errors import EntenteError, Reason
from broker.model.ledger import JsonValue
from broker.model.principal import Principal, SubjectClass
from broker.model.rulebook import Revision
from tests.fakes.auditing import AUDITOR
from tests.fakes.clock import TurnedClock
from tests.fakes.regimes import in_force

OLD = Revision("sha256:old", {"data/vocabulary/data.yaml": b"words: of another version\n"}, False)
ASKED = MadeUp(SubjectClass("beta", (), (), "rescue"), "alerts", revision=OLD.id)


@dataclass
class Fakes:
    """Everything around the desk."""

    accounts: list[str] = field(default_factory=list)

    async def scope(self, principal: Principal, verb: str) -> Scope:
        return Scope(None if principal.agency == "exchange" else principal.agency)

    async def account(self, principal: Principal, method: str, about: dict[str, JsonValue]) -> None:
        self.accounts.append(principal.agency)

    async def resolve(self, view: View, shown_id: str) -> str:
        return shown_id

    async def revision(self, revision_id: str) -> Revision:
        return OLD

    def desk(self, **other: Any) -> ExplainDesk:
        return ExplainDesk(
            in_force=in_force(),
            access=cast(AdminAccess, self),
            library=cast(RulebookLibrary, self),
            readings=cast(Readings, self),
            explainer=other.get("explainer", cast(Explainer, self)),
            clock=TurnedClock(),
        )


async def test_a_revision_that_could_not_be_in_force_any_more_is_not_found() -> None:
    """As one of another version of the exchange, which replay treats alike."""
    with pytest.raises(EntenteError) as failed:
        await Fakes().desk().made_up(AUDITOR, ASKED)
    assert failed.value.reason is Reason.REVISION_NOT_FOUND
