"""Who suspends, ratifies, lifts and sees what; and that the ledger comes first."""

from __future__ import annotations

import pytest

from broker.core.overlay.judge import Judge
from broker.core.overlay.suspending import SUSPENSIONS_MOST, SuspensionDesk
from broker.errors import EntenteError, Reason
from broker.model.overlay import EndCause, PastSuspension, Suspension, SuspensionKind
from broker.model.principal import Principal
from tests.fakes.overlays import Overlaying, agency_admin, exchange_admin, person

AGENCY, PRINCIPAL, TOPIC = SuspensionKind.AGENCY, SuspensionKind.PRINCIPAL, SuspensionKind.TOPIC
HOUR_MS = 3_600_000


class Desk(SuspensionDesk):
    """A desk with its surroundings."""

    def __init__(self) -> None:
        self.world = Overlaying()
        super().__init__(self.world.asking, self.world.in_force)

    @property
    def judge(self) -> Judge:
        """Of what is in force now."""
        return Judge(self.world.agreement.state.overlays.overlays)

    def now_ms(self) -> int:
        """The desk's clock."""
        return self.world.clock.now_ms()

    async def refusal(self, principal: Principal, *asked: object) -> Reason:
        """Of a suspension that is refused, and changes nothing."""
        with pytest.raises(EntenteError) as refused:
            await self.suspend(principal, *asked)  # type: ignore[arg-type]
        assert self.world.agreement.events == []
        assert self.world.ledger.entries == []
        return refused.value.reason


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_the_exchange_suspends_an_agency_for_a_time(desk: Desk) -> None:
    done = await desk.suspend(exchange_admin(), AGENCY, "alpha", "stolen key", HOUR_MS)
    assert desk.judge.principal_suspended("alpha", "anybody", desk.now_ms()) is not None
    assert done.suspension.until_ms == desk.now_ms() + HOUR_MS
    assert done.suspension.ratify_by_ms == desk.now_ms() + 24 * HOUR_MS
    (change,) = desk.world.changes()
    assert change == {
        "what": "suspended",
        "id": done.suspension.id,
        "kind": "agency",
        "target": "alpha",
        "owner": None,
        "reason": "stolen key",
        "until_ms": done.suspension.until_ms,
        "ratify_by_ms": done.suspension.ratify_by_ms,
    }


async def test_an_owners_own_suspension_needs_nobody_and_concerns_its_records_only(desk: Desk) -> None:
    done = await desk.suspend(agency_admin("alpha"), AGENCY, "beta", "dispute", None)
    assert done.suspension.owner == "alpha"
    assert done.suspension.ratify_by_ms is None
    assert desk.judge.principal_suspended("beta", "x", desk.now_ms()) is None
    assert desk.judge.owner_waits("alpha", "t", "beta", desk.now_ms()) is not None


@pytest.mark.parametrize(
    "principal", [person("alpha", "analyst", "someone"), person("exchange", "auditor", "auditor-1")]
)
async def test_others_suspend_nothing(desk: Desk, principal: Principal) -> None:
    assert await desk.refusal(principal, AGENCY, "beta", "why", None) is Reason.ADMINISTRATION_DENIED
    nonsense = await desk.refusal(principal, None, "\n", "", -1)
    assert nonsense is Reason.ADMINISTRATION_DENIED, "who may not is told nothing about what it asked"


@pytest.mark.parametrize(
    ("kind", "target", "reason", "lasts_ms"),
    [
        (None, "alpha", "why", None),
        (AGENCY, "", "why", None),
        (AGENCY, "Alpha", "why", None),
        (AGENCY, "alpha/x", "why", None),
        (AGENCY, "alpha/", "it would restrict nobody", None),
        (TOPIC, "t/", "it would restrict nothing", None),
        (AGENCY, "nobody", "why", None),
        (AGENCY, "exchange", "nobody could lift it", None),
        (PRINCIPAL, "alpha", "why", None),
        (PRINCIPAL, "alpha/", "why", None),
        (PRINCIPAL, "nobody/x", "why", None),
        (PRINCIPAL, "alpha/x\n", "why", None),
        (PRINCIPAL, "alpha/" + "x" * 600, "why", None),
        (TOPIC, "another", "why", None),
        (TOPIC, "t", "", None),
        (TOPIC, "t", "two\nlines", None),
        (TOPIC, "t", "x" * 1_001, None),
        (TOPIC, "t", "why", 0),
        (TOPIC, "t", "why", -1),
        (TOPIC, "t", "why", 10**15),
    ],
)
async def test_what_is_no_suspension_is_refused(
    desk: Desk, kind: SuspensionKind | None, target: str, reason: str, lasts_ms: int | None
) -> None:
    assert await desk.refusal(exchange_admin(), kind, target, reason, lasts_ms) is Reason.REQUEST_INVALID


async def test_an_agency_learns_nothing_of_what_exists(desk: Desk) -> None:
    """A topic that it may not know, and an agency with which it has nothing to do, are suspended like missing ones."""
    for kind, target in ((TOPIC, "t"), (TOPIC, "missing"), (AGENCY, "beta"), (AGENCY, "missing")):
        done = await desk.suspend(agency_admin("alpha"), kind, target, "why", None)
        assert done.suspension.target == target


async def test_nobody_takes_another_owners_room(desk: Desk) -> None:
    for number in range(SUSPENSIONS_MOST):
        await desk.suspend(agency_admin("alpha"), AGENCY, f"a-{number}", "why", None)
    with pytest.raises(EntenteError) as refused:
        await desk.suspend(agency_admin("alpha"), AGENCY, "beta", "why", None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    await desk.suspend(exchange_admin(), AGENCY, "alpha", "why", None)
    await desk.suspend(agency_admin("gamma"), AGENCY, "beta", "why", None)


async def test_an_agency_does_not_lock_itself_out(desk: Desk) -> None:
    assert await desk.refusal(agency_admin("alpha"), AGENCY, "alpha", "why", None) is Reason.REQUEST_INVALID


async def test_nothing_is_suspended_that_is_not_in_the_ledger(desk: Desk) -> None:
    desk.world.ledger.failures = 1
    with pytest.raises(EntenteError) as failed:
        await desk.suspend(exchange_admin(), AGENCY, "alpha", "why", None)
    assert failed.value.reason is Reason.LEDGER_UNAVAILABLE
    assert desk.world.agreement.events == []


async def test_another_administrator_ratifies_and_then_it_does_not_lapse(desk: Desk) -> None:
    held = (await desk.suspend(exchange_admin(), AGENCY, "alpha", "why", None)).suspension
    with pytest.raises(EntenteError) as own:
        await desk.ratify(exchange_admin(), held.id)
    assert own.value.reason is Reason.ADMINISTRATION_DENIED
    done = await desk.ratify(exchange_admin("admin-2"), held.id)
    assert done.suspension.ratified_by == ("exchange", "admin-2")
    desk.world.clock.advance(25 * 3600)
    assert desk.judge.principal_suspended("alpha", "x", desk.now_ms()) is not None
    with pytest.raises(EntenteError) as again:
        await desk.ratify(exchange_admin("admin-2"), held.id)
    assert again.value.reason is Reason.SUSPENSION_SETTLED


async def test_one_that_nobody_ratified_lapses_and_is_not_ratified_later(desk: Desk) -> None:
    held = (await desk.suspend(exchange_admin(), AGENCY, "alpha", "why", None)).suspension
    desk.world.clock.advance(24 * 3600)
    assert desk.judge.principal_suspended("alpha", "x", desk.now_ms()) is None
    with pytest.raises(EntenteError) as late:
        await desk.ratify(exchange_admin("admin-2"), held.id)
    assert late.value.reason is Reason.SUSPENSION_NOT_FOUND


async def test_a_hidden_suspension_and_a_missing_one_get_the_same_answer(desk: Desk) -> None:
    """To each who asks about one that is not its own."""
    exchanges = (await desk.suspend(exchange_admin(), AGENCY, "beta", "why", None)).suspension.id
    alphas = (await desk.suspend(agency_admin("alpha"), AGENCY, "beta", "why", None)).suspension.id
    before = len(desk.world.ledger.entries)
    for principal, hidden in (
        (agency_admin("beta"), exchanges),
        (agency_admin("beta"), alphas),
        (agency_admin("alpha"), exchanges),
        (exchange_admin(), alphas),
    ):
        answers = []
        for asked in (hidden, "0" * 16):
            desk.world.access.asked.clear()
            with pytest.raises(EntenteError) as refused:
                await desk.lift(principal, asked)
            told = str(refused.value).replace(asked, "ID")
            answers.append((refused.value.reason, told, list(desk.world.access.asked)))
        assert answers[0] == answers[1]
    for principal in (agency_admin("beta"), agency_admin("alpha")):
        reasons = set()
        for asked in (exchanges, alphas, "0" * 16):
            with pytest.raises(EntenteError) as refused:
                await desk.ratify(principal, asked)
            reasons.add(refused.value.reason)
        assert reasons == {Reason.ADMINISTRATION_DENIED}
    assert len(desk.world.ledger.entries) == before


async def test_one_of_ones_own_is_lifted(desk: Desk) -> None:
    held = (await desk.suspend(agency_admin("alpha"), TOPIC, "t", "why", None)).suspension
    done = await desk.lift(agency_admin("alpha", "admin-2"), held.id)
    assert done.over is not None
    assert (done.over.cause, done.over.by) == (EndCause.LIFTED, ("alpha", "admin-2"))
    assert desk.judge.owner_waits("alpha", "t", "beta", desk.now_ms()) is None
    assert [change["what"] for change in desk.world.changes()] == ["suspended", "lifted"]


async def test_each_sees_its_own_part_of_the_list(desk: Desk) -> None:
    await desk.suspend(exchange_admin(), PRINCIPAL, "beta/x", "a secret", None)
    await desk.suspend(exchange_admin(), TOPIC, "t", "about a topic", None)
    await desk.suspend(agency_admin("alpha"), AGENCY, "beta", "alpha's own affair", None)
    seen = {name: await desk.list(agency_admin(name), past=True) for name in ("alpha", "beta", "gamma")}
    assert [(s.target, s.reason) for s in only_held(seen["alpha"])] == [("beta", "alpha's own affair")]
    assert [(s.target, s.reason, s.by_subject) for s in only_held(seen["beta"])] == [("beta/x", "", "")]
    assert seen["gamma"] == []
    assert len(await desk.list(exchange_admin(), past=False)) == 3
    with pytest.raises(EntenteError):
        await desk.list(person("alpha", "analyst", "someone"), past=False)


async def test_what_is_over_is_listed_when_asked_for(desk: Desk) -> None:
    lifted = (await desk.suspend(agency_admin("alpha"), TOPIC, "t", "why", None)).suspension
    await desk.lift(agency_admin("alpha"), lifted.id)
    await desk.suspend(agency_admin("alpha"), TOPIC, "t", "why", 1_000)
    await desk.suspend(exchange_admin(), AGENCY, "beta", "why", None)
    desk.world.clock.advance(24 * 3600)
    assert await desk.list(exchange_admin(), past=False) == []
    past = await desk.list(exchange_admin(), past=True)
    causes = [each.cause for each in past if isinstance(each, PastSuspension)]
    assert sorted(causes) == [EndCause.ENDED, EndCause.LAPSED, EndCause.LIFTED]


def only_held(found: list[Suspension | PastSuspension]) -> list[Suspension]:
    """Those in force."""
    return [each for each in found if isinstance(each, Suspension)]
