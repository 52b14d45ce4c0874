"""Asking who may administer: what is asked, and what the answers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.core.administer import AdminAccess
from broker.core.audit.view import Scope
from broker.core.decide import Question, Ruling
from broker.core.in_force import Order
from broker.errors import EntenteError, Reason
from broker.model.decision import Decision, Effect
from broker.model.overlay import Overlays, Suspension, SuspensionKind
from broker.model.principal import Principal
from tests.fakes.clock import TurnedClock
from tests.fakes.regimes import RULES, in_force

YES = Decision(Effect.RELEASE, reasons=("administration",))
NO = Decision(Effect.WITHHOLD, reasons=("approval-missing: ems", "own-proposal"))
EMS = Principal("ems", "admin-1", ("agency-admin",), (), {}, "token", datetime.max.replace(tzinfo=UTC))


class Scripted:
    """A decider that answers by verb and owner."""

    rules = RULES

    def __init__(self, answers: Mapping[tuple[str, str | None], Decision | None] | None = None) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    async def decide(self, questions: Sequence[Question]) -> list[Decision | None]:
        items: list[dict[str, Any]] = [dict(question.item) for question in questions]
        self.asked += items
        if self.answers is None:
            return [None] * len(items)
        return [self.answers[item["verb"], item["about"].get("owner")] for item in items]


def access(decider: Scripted) -> AdminAccess:
    return AdminAccess(in_force(decider), TurnedClock())


async def test_a_question_holds_all_that_it_may_depend_on_in_one_order() -> None:
    decider = Scripted({("activate", None): YES})
    areas, approvals = [("module", "ems"), ("exchange", "")], [("ems", "admin-2"), ("exchange", "admin-1")]

    (ruling,) = await access(decider).require(EMS, "activate", areas, ("ems", "admin-1"), approvals)
    await access(decider).require(EMS, "activate", areas[::-1], ("ems", "admin-1"), approvals[::-1] * 2)

    first, again = decider.asked
    assert first == again
    assert first == {
        "action": "administer",
        "subject": {"agency": "ems", "id": "admin-1", "roles": ["agency-admin"], "attributes": {}},
        "verb": "activate",
        "areas": [{"kind": "exchange", "owner": ""}, {"kind": "module", "owner": "ems"}],
        "author": {"agency": "ems", "id": "admin-1"},
        "approvals": [{"agency": "ems", "id": "admin-2"}, {"agency": "exchange", "id": "admin-1"}],
        "about": {},
    }
    assert isinstance(ruling, Ruling)
    assert ruling.rules == RULES
    assert ruling.value["input"] == first


async def test_a_refusal_says_nothing_and_its_decision_goes_to_the_ledger() -> None:
    decider = Scripted({("suspend", "ems"): NO})
    with pytest.raises(EntenteError) as caught:
        await access(decider).require(EMS, "suspend", about={"owner": "ems"})
    assert caught.value.reason is Reason.ADMINISTRATION_DENIED
    assert (caught.value.detail, caught.value.metadata) == ("", {})
    assert "ems" not in str(caught.value) and "approval" not in str(caught.value)
    (ruling,) = caught.value.decisions
    output = ruling.told_under(RULES)["output"]
    assert output["reasons"] == list(NO.reasons)


async def test_what_is_missing_is_told_where_it_is_asked_for() -> None:
    approvals: tuple[Any, ...] = ([("module", "ems")], ("ems", "admin-1"), [])
    assert await access(Scripted({("activate", None): NO})).missing(EMS, "activate", *approvals) == NO.reasons
    assert await access(Scripted({("activate", None): YES})).missing(EMS, "activate", *approvals) == ()


@pytest.mark.parametrize(
    ("everything", "own", "seen"), [(YES, NO, Scope()), (YES, YES, Scope()), (NO, YES, Scope("ems"))]
)
async def test_a_reader_has_the_widest_eyes_that_are_permitted(
    everything: Decision, own: Decision, seen: Scope
) -> None:
    decider = Scripted({("simulate", ""): everything, ("simulate", "ems"): own})
    assert await access(decider).scope(EMS, "simulate") == seen


async def test_who_may_read_nothing_is_refused_by_both_decisions() -> None:
    with pytest.raises(EntenteError) as caught:
        await access(Scripted({("read", ""): NO, ("read", "ems"): NO})).scope(EMS)
    assert caught.value.reason is Reason.ADMINISTRATION_DENIED
    assert len(caught.value.decisions) == 2


async def test_no_decision_is_no_permission() -> None:
    silent: Mapping[tuple[str, str | None], Decision | None] = {
        ("propose", None): None,
        ("read", ""): YES,
        ("read", "ems"): None,
    }
    for decider in (Scripted(None), Scripted(silent)):
        asking = access(decider)
        for call in (
            asking.require(EMS, "propose"),
            asking.missing(EMS, "propose", (), None, ()),
            asking.scope(EMS),
        ):
            with pytest.raises(EntenteError) as caught:
                await call
            assert caught.value.reason is Reason.POLICY_UNAVAILABLE


async def test_a_permission_that_is_over_permits_nothing() -> None:
    clock = TurnedClock()
    over = Decision(Effect.RELEASE, valid_until=datetime.fromtimestamp(clock.now_ms() / 1000, UTC))
    with pytest.raises(EntenteError) as caught:
        await AdminAccess(in_force(Scripted({("propose", None): over})), clock).require(EMS, "propose")
    assert caught.value.reason is Reason.ADMINISTRATION_DENIED


def suspended(*targets: str) -> Overlays:
    """The exchange has suspended these principals."""
    made = {
        target: Suspension(
            target, SuspensionKind.PRINCIPAL, target, None, "stolen", "exchange", "admin-1", since_ms=0
        )
        for target in targets
    }
    return Overlays(1, made)


async def test_what_the_suspended_did_does_not_count() -> None:
    """Whoever took a stolen token's holder out must not find that a change goes through in that name."""
    decider = Scripted({("activate", None): YES})
    present = in_force(decider)
    asking = AdminAccess(present, TurnedClock())
    change: tuple[Any, ...] = (
        [("module", "ems")],
        ("ems", "admin-2"),
        [("ems", "admin-3"), ("ems", "admin-4")],
    )

    await asking.require(EMS, "activate", *change)
    present.replace(Order(present.present.regime, suspended("ems/admin-2", "ems/admin-3")))
    await asking.require(EMS, "activate", *change)
    await asking.missing(EMS, "activate", *change)

    before, *after = decider.asked
    assert before["author"] == {"agency": "ems", "id": "admin-2"} and len(before["approvals"]) == 2
    for each in after:
        assert each["author"] is None
        assert each["approvals"] == [{"agency": "ems", "id": "admin-4"}]


async def test_the_suspended_administer_nothing() -> None:
    decider = Scripted({("propose", None): YES, ("read", ""): YES, ("read", "ems"): YES})
    present = in_force(decider)
    present.replace(Order(present.present.regime, suspended("ems/admin-1")))
    asking = AdminAccess(present, TurnedClock())
    for call in (asking.require(EMS, "propose"), asking.scope(EMS)):
        with pytest.raises(EntenteError) as caught:
            await call
        assert caught.value.reason is Reason.SUSPENDED
    assert decider.asked == []
