"""Withdrawing, the notices that follow, whoever stops, and who is told of recipients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from broker.core.audit.fresh import FreshIndex
from broker.core.audit.readings import Readings
from broker.core.audit.view import Scope
from broker.core.control.members import Members
from broker.core.overlay import withdrawing
from broker.core.overlay.announcing import TURN_S, Announcer, AnnouncerTools
from broker.core.overlay.notice import SOURCE, read_notice
from broker.core.overlay.suspending import SuspensionDesk
from broker.core.overlay.withdrawing import WithdrawalDesk, recipients
from broker.core.record.fingerprint import identity
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.audit import Publication, Sighting
from broker.model.overlay import SuspensionKind
from broker.model.principal import Principal
from broker.model.record import Appended, AppendResult, IdReused, NewRecord
from broker.ports.record_log import RecordLog
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.overlays import Overlaying, agency_admin, exchange_admin
from tests.fakes.regimes import TOPIC, TYPE, FixedKeys

RECORD = ("//alpha/x", "1")
IDENTITY = identity(*RECORD)


class Index:
    """What the announcer and the desk ask of an AuditIndex."""

    def __init__(self) -> None:
        self.published = [Publication(*RECORD, TYPE, "alpha", {}, TOPIC, 0, 7, False, "a", 1, 5)]
        self.seen: list[Sighting] = []
        self.notices: list[Sighting] = []

    async def publications(self, source: str, record_id: str) -> Sequence[Publication]:
        return self.published if (source, record_id) == RECORD else []

    async def sightings(self, source: str, record_id: str) -> Sequence[Sighting]:
        if (source, record_id) == RECORD:
            return self.seen
        return self.notices if (source, record_id) == (SOURCE, IDENTITY.hex()) else []


class Fresh:
    """The FreshIndex and the Readings over it. broken: so many readings fail."""

    def __init__(self) -> None:
        self.index = Index()
        self.broken = 0

    async def updated(self) -> tuple[Any, Any]:
        if self.broken:
            self.broken -= 1
            raise EntenteError(Reason.AUDIT_UNAVAILABLE)
        return None, self.index

    async def account(self, *_: object) -> None:
        """See Readings."""

    @asynccontextmanager
    async def unrestricted(self) -> AsyncIterator[tuple[Any, Any]]:
        yield await self.updated()


class Log:
    """The RecordLog port of one topic, as far as notices need it."""

    def __init__(self) -> None:
        self.records: dict[bytes, NewRecord] = {}
        self.broken = 0
        self.fault: Exception | None = None

    async def append(self, topic: str, records: Sequence[NewRecord]) -> Sequence[AppendResult]:
        if self.broken:
            self.broken -= 1
            raise StorageUnavailable("scripted")
        if self.fault is not None:
            raise self.fault
        (record,) = records
        known = self.records.setdefault(record.identity, record)
        if known.digest != record.digest:
            return [IdReused()]
        return [Appended(0, 8, known is not record)]

    def events(self) -> list[CloudEvent]:
        return [CloudEvent.FromString(each.body) for each in self.records.values()]


class World(Overlaying):
    """Instances `a`, which is asked, and others."""

    def __init__(self, *instances: str) -> None:
        super().__init__(*instances)
        self.log = Log()
        self.fresh = Fresh()
        self.announcers = {name: self.announcer(name) for name in (instances or ("a",))}
        readings = cast(Readings, self.fresh)
        self.desk = WithdrawalDesk(self.asking, readings, self.announcers["a"], "a")
        self.suspensions = SuspensionDesk(self.asking, self.in_force)

    def announcer(self, instance: str) -> Announcer:
        """As it is after the instance's start."""
        tools = AnnouncerTools(
            control=self.control,
            ledger=cast(FreshIndex, self.fresh),
            record_log=cast(RecordLog, self.log),
            in_force=self.in_force,
            evidence=self.evidence,
            keys=FixedKeys(),
            clock=self.clock,
            instance=instance,
        )
        return Announcer(tools)

    async def withdraw(self, principal: Principal | None = None, **choices: bool) -> None:
        await self.desk.withdraw(
            principal or agency_admin("alpha"), *RECORD, "wrong person", **{"tell_reason": False, **choices}
        )

    @property
    def announced(self) -> bool:
        return IDENTITY in self.agreement.state.overlays.announced


@pytest.fixture
async def world() -> World:
    return World()


def sighting(agency: str = "beta", subject: str = "s", **changed: Any) -> Sighting:
    """Somebody who was handed the record."""
    plain = Sighting(
        *(10, agency, subject, "token", None, "work", "", "stream", "release", {}, {}, "r", "e"),
        *(TOPIC, 0, 7, False, None, None, "a", 2),
    )
    return replace(plain, **changed)


async def test_it_is_in_force_on_return_and_the_notice_follows(world: World) -> None:
    world.fresh.index.seen = [sighting("beta"), sighting("gamma"), sighting("beta", "other")]
    await world.withdraw()
    assert IDENTITY in world.agreement.state.overlays.overlays.withdrawn
    assert world.log.events() == [], "returning does not wait for the notice"
    await world.announcers["a"].look()
    (event,) = world.log.events()
    notice = read_notice(event)
    assert notice is not None
    assert notice.agencies == {"beta", "gamma"}
    assert orjson.loads(event.text_data)["contact"] == "desk@alpha.example"
    assert world.announced
    assert [change["what"] for change in world.changes()] == ["withdrawn", "announced"]
    (published,) = world.ledger.of("publish")
    assert cast(Any, published.body["stored"]) == [[0, 8]]
    await world.announcers["a"].look()
    assert len(world.agreement.events) == 2, "once it is done it is done"


async def test_only_who_was_handed_the_record_itself_is_told(world: World) -> None:
    """Whoever had a notice that some record exists does not know its name."""
    world.fresh.index.seen = [sighting("beta", effect="notice")]
    await world.withdraw()
    await world.announcers["a"].look()
    assert world.log.events() == []
    assert world.announced


@pytest.mark.parametrize("principal", [agency_admin("beta"), exchange_admin()])
async def test_others_than_its_owner_withdraw_nothing(world: World, principal: Principal) -> None:
    with pytest.raises(EntenteError) as refused:
        await world.withdraw(principal)
    assert refused.value.reason is Reason.ADMINISTRATION_DENIED
    assert world.agreement.events == []
    assert world.ledger.entries == []


@pytest.mark.parametrize("source", ["", "alpha/x", "http://alpha/x", "//alpha", "//Alpha/x"])
async def test_a_source_without_an_owner_is_refused(world: World, source: str) -> None:
    with pytest.raises(EntenteError) as refused:
        await world.desk.withdraw(agency_admin("alpha"), source, "1", "why", tell_reason=False)
    assert refused.value.reason is Reason.REQUEST_INVALID


@pytest.mark.parametrize(
    ("record_id", "reason"),
    [("", "why"), ("x" * 1_025, "why"), ("1\n", "why"), ("1", ""), ("1", "x" * 1_001)],
)
async def test_what_is_too_long_or_no_line_is_refused(world: World, record_id: str, reason: str) -> None:
    with pytest.raises(EntenteError) as refused:
        await world.desk.withdraw(agency_admin("alpha"), RECORD[0], record_id, reason, tell_reason=False)
    assert refused.value.reason is Reason.REQUEST_INVALID
    assert world.ledger.entries == []


async def test_nothing_is_withdrawn_that_is_not_in_the_ledger(world: World) -> None:
    world.ledger.failures = 1
    with pytest.raises(EntenteError):
        await world.withdraw()
    assert world.agreement.events == []


async def test_withdrawing_again_changes_nothing_and_waits_for_all(world: World) -> None:
    await world.withdraw()
    first = world.agreement.state.overlays.overlays
    await world.withdraw()
    assert world.agreement.state.overlays.overlays is first


async def test_whatever_fails_is_tried_again(world: World) -> None:
    world.fresh.index.seen = [sighting()]
    await world.withdraw()
    world.fresh.broken = world.log.broken = 1
    for _ in range(2):
        with pytest.raises((EntenteError, StorageUnavailable)):
            await world.announcers["a"].look()
        assert not world.announced
    await world.announcers["a"].look()
    assert world.announced
    assert len(world.log.events()) == 1


async def test_what_cannot_be_announced_holds_up_nothing_else(world: World) -> None:
    world.fresh.index.seen = [sighting()]
    await world.withdraw()
    await world.suspensions.suspend(exchange_admin(), SuspensionKind.AGENCY, "beta", "why", 1_000)
    await world.desk.withdraw(agency_admin("alpha"), "//alpha/x", "unpublished", "why", tell_reason=False)
    world.clock.advance(2)
    world.log.broken = 1
    with pytest.raises(StorageUnavailable):
        await world.announcers["a"].look()
    assert world.agreement.state.overlays.overlays.suspensions == {}
    assert identity("//alpha/x", "unpublished") in world.agreement.state.overlays.announced
    assert not world.announced
    await world.announcers["a"].look()
    assert world.announced


async def test_nor_does_what_fails_in_a_way_that_nobody_expected(world: World) -> None:
    world.fresh.index.seen = [sighting()]
    await world.desk.withdraw(agency_admin("alpha"), "//alpha/x", "unpublished", "why", tell_reason=False)
    await world.withdraw()
    world.log.fault = ValueError("scripted")
    with pytest.raises(ValueError, match="scripted"):
        await world.announcers["a"].look()
    assert identity("//alpha/x", "unpublished") in world.agreement.state.overlays.announced
    assert not world.announced


async def test_an_owner_withdraws_so_many_and_takes_nobody_elses_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawing, "WITHDRAWALS_MOST", 1)
    await world.withdraw()
    await world.withdraw()
    with pytest.raises(EntenteError) as refused:
        await world.desk.withdraw(agency_admin("alpha"), "//alpha/x", "2", "why", tell_reason=False)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    await world.desk.withdraw(agency_admin("beta"), "//beta/x", "2", "why", tell_reason=False)


async def test_one_that_stops_between_the_notice_and_its_entries_leaves_one_notice() -> None:
    """Its successor finds the notice in the log and says where it is."""
    world = World()
    world.fresh.index.seen = [sighting()]
    await world.withdraw()
    world.agreement.unavailable = True
    with pytest.raises(EntenteError):
        await world.announcers["a"].look()
    world.agreement.unavailable = False
    await world.announcer("a").look()
    assert world.announced
    assert len(world.log.events()) == 1


async def test_another_instance_sees_to_it_if_the_one_that_was_asked_stops() -> None:
    world = World("a", "b", "c")
    world.fresh.index.seen = [sighting()]
    await world.withdraw()
    for _ in range(3):
        await world.announcers["b"].look()
        await world.announcers["c"].look()
        world.clock.advance(TURN_S / 4)
    assert world.log.events() == [], "the one that was asked has its turn"
    world.clock.advance(TURN_S / 4)
    await world.announcers["c"].look()
    assert world.log.events() == [], "and then the next one"
    await world.announcers["b"].look()
    assert world.announced
    kinds = [event.kind for event in world.agreement.events]
    assert kinds == ["withdrawn", "withdrawn", "announced"], (
        "first of all it makes sure that everybody has heard"
    )


async def test_an_instance_that_starts_finds_what_is_left_to_do() -> None:
    world = World("a", "b")
    world.fresh.index.seen = [sighting()]
    await world.withdraw()
    state = world.agreement.state
    left = Members({"b": state.members.present["b"]})
    world.agreement.state = replace(state, members=left)
    await world.announcer("b").look()
    assert world.announced, "nobody else is there to wait for"


async def test_a_suspension_that_is_over_is_announced_once() -> None:
    world = World("a", "b")
    await world.suspensions.suspend(exchange_admin(), SuspensionKind.AGENCY, "beta", "why", None)
    await world.announcers["a"].look()
    assert len(world.changes()) == 1
    world.clock.advance(24 * 3600)
    await world.announcers["b"].look()
    assert len(world.changes()) == 1, "it is the other's turn"
    await world.announcers["a"].look()
    await world.announcers["b"].look()
    assert [(each["what"], each.get("cause")) for each in world.changes()] == [
        ("suspended", None),
        ("announced", "lapsed"),
    ]
    assert world.agreement.state.overlays.overlays.suspensions == {}


async def test_the_report_is_for_the_owner_and_those_who_see_all(world: World) -> None:
    world.fresh.index.seen = [sighting("beta", "secret-person")]
    await world.withdraw()
    own = await world.desk.report(agency_admin("alpha"), *RECORD)
    assert [(each.agency, each.subject) for each in own.recipients] == [("beta", "")]
    everything = await world.desk.report(exchange_admin(), *RECORD)
    assert [(each.agency, each.subject) for each in everything.recipients] == [("beta", "secret-person")]
    answers = []
    for asked in (RECORD, ("//alpha/x", "missing")):
        with pytest.raises(EntenteError) as refused:
            await world.desk.report(agency_admin("beta"), *asked)
        answers.append((refused.value.reason, str(refused.value)))
    assert answers[0] == answers[1]
    assert answers[0][0] is Reason.WITHDRAWAL_NOT_FOUND


def test_recipients_are_told_with_what_each_of_them_acknowledged() -> None:
    records = [
        sighting("beta", "one", subscription="s", acknowledged=True),
        sighting("beta", "one", subscription="s", acknowledged=False, time_ms=20),
        sighting("beta", "two", acknowledged=True),
        sighting("gamma", "three"),
    ]
    notices = [
        sighting("beta", "one", subscription="s", effect="withdrawal", time_ms=30, acknowledged=True),
        sighting("beta", "late", effect="withdrawal", time_ms=31, acknowledged=True),
    ]
    everything = recipients(Scope(), records, notices)
    assert [
        (r.agency, r.subject, r.record_acknowledged, r.notice_ms, r.notice_acknowledged) for r in everything
    ] == [
        ("beta", "one", True, 30, True),
        ("beta", "two", True, None, False),
        ("gamma", "three", False, None, False),
    ]
    (beta, gamma) = recipients(Scope("alpha"), records, notices)
    assert (beta.agency, beta.subject, beta.subscription) == ("beta", "", "")
    assert (beta.record_ms, beta.record_acknowledged) == (10, True)
    assert (beta.notice_ms, beta.notice_acknowledged) == (30, False), "one of them has not had it yet"
    assert (gamma.record_acknowledged, gamma.notice_ms) == (False, None)
