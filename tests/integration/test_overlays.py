"""Suspending and withdrawing over gRPC, embedded: what stops, what waits, who is told, and that nothing leaks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from connectors.client import Client
from connectors.errors import EntenteClientError
from connectors.overlaying import Kind, Overlaying
from protos.entente.v1 import exchange_pb2, overlays_pb2
from protos.entente.v1.ledger_pb2 import ReplayedRecord, ReplayRecordsRequest
from tests.integration.exchange.failure import Failure, failure_of
from tests.integration.exchange.live import PEOPLE, Live, Person, Stream, running_live
from tests.integration.exchange.records import CRASH_FILE, crash, unique
from tests.services.evidence import Auditor

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

TOPIC = "crash-reports"
SOURCE = "//highway-patrol/rms"
TEXT = CRASH_FILE.read_text()
LATEST = exchange_pb2.START_POSITION_LATEST
PATIENCE_S = 60.0
ADMINISTRATORS = {
    "exchange-1": Person("exchange", "admin-1", "exchange-admin", "exchange-administration", "clear"),
    "exchange-2": Person("exchange", "admin-2", "exchange-admin", "exchange-administration", "clear"),
    "owner": Person("highway-patrol", "admin-1", "agency-admin", "law-enforcement", "red"),
    "ems-boss": Person("ems", "admin-1", "agency-admin", "emergency-response", "red"),
    "colleague": Person("ems", "paramedic-2", "paramedic", "emergency-response", "red"),
}


class Desk:
    """An exchange and everybody's view of the service."""

    def __init__(self, live: Live, clients: Mapping[str, Client]) -> None:
        self.live = live
        self._clients = clients

    def of(self, name: str) -> Overlaying:
        return self._clients[name].overlays

    async def publish(self, *ids: str) -> None:
        """Crash reports of the highway patrol."""
        await self.live.caller("highway-patrol").publish_all(TOPIC, *(named(each) for each in ids))

    async def replayed(self, request: ReplayRecordsRequest) -> list[ReplayedRecord]:
        """What an auditor is shown of a topic."""
        return [record async for record in self._clients["auditor-1"].ledger.replay(request)]

    def changes(self) -> list[dict[str, Any]]:
        """The changes that are in the ledger, in order."""
        return [entry["change"] for entry in self.live.ledger("overlay_changed")]


def named(record_id: str) -> Any:
    """A crash report of this id."""
    record = crash(TEXT)
    record.id = record_id
    return record


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(tmp_path_factory: pytest.TempPathFactory, opa_binary: Path) -> AsyncIterator[Desk]:
    folder = tmp_path_factory.mktemp("overlays")
    async with running_live(folder / "exchange", opa_binary) as live, AsyncExitStack() as stack:
        PEOPLE.update(ADMINISTRATORS)
        stack.callback(lambda: [PEOPLE.pop(name) for name in ADMINISTRATORS])
        clients = {}
        for name in (*ADMINISTRATORS, "ems", "auditor-1"):
            client = Client(
                live.ready.tls_address,
                token=live.token(name),
                ca_file=folder / "exchange" / "tls" / "ca.pem",
            )
            clients[name] = await stack.enter_async_context(client)
        yield Desk(live, clients)


async def refused(asked: Any) -> str:
    """The reason of a call that is refused."""
    with pytest.raises(EntenteClientError) as error:
        await asked
    return error.value.reason


def is_withdrawal(delivery: exchange_pb2.Delivery) -> bool:
    """Whether it tells of a withdrawal."""
    return delivery.HasField("withdrawal")


async def reaches(
    stream: Stream, wanted: Callable[[exchange_pb2.Delivery], bool]
) -> list[exchange_pb2.Delivery]:
    """All deliveries up to the batch with one that is wanted."""
    found: list[exchange_pb2.Delivery] = []
    async with asyncio.timeout(PATIENCE_S):
        while not any(map(wanted, found)):
            found.extend((await stream.next("batch")).deliveries)
    return found


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until something that the exchange sees to by itself is done, within generous time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def suspended(desk: Desk, by: str, kind: Kind, target: str) -> AsyncIterator[overlays_pb2.Suspension]:
    """Suspended inside the block, unless it lifts that itself."""
    suspension = (await desk.of(by).suspend(kind, target, "because")).suspension
    try:
        yield suspension
    finally:
        if suspension.id in [each.id for each in await desk.of(by).suspensions()]:
            await desk.of(by).lift(suspension.id)


async def test_a_suspended_agency_is_cut_off_and_comes_back(desk: Desk) -> None:
    ems = desk.live.caller("ems")
    async with ems.stream(TOPIC, purpose="emergency-response", subscription="cut-off") as stream:
        await stream.opened()
        done = await desk.of("exchange-1").suspend("agency", "ems", "stolen key")
        ended = await asyncio.wait_for(stream.failure(), PATIENCE_S)
        assert (ended.reason, "stolen key" in str(ended)) == ("SUSPENDED", False)
    assert done.suspension.HasField("ratify_by_time")
    assert await refused(desk.of("ems").suspensions()) == "SUSPENDED"
    missed = unique()
    await desk.publish(missed)
    with pytest.raises(Failure) as again:
        async with ems.stream(TOPIC, purpose="emergency-response") as stream:
            await stream.opened()
    assert again.value.reason == "SUSPENDED"
    closed = desk.live.ledger("stream_closed")[-1]
    assert (closed["who"]["agency"], closed["end"]["cause"]) == ("ems", "SUSPENDED")

    assert await refused(desk.of("exchange-1").ratify(done.suspension.id)) == "ADMINISTRATION_DENIED"
    ratified = await desk.of("exchange-2").ratify(done.suspension.id)
    assert ratified.suspension.ratified_by.subject == "admin-2"
    lifted = await desk.of("exchange-2").lift(done.suspension.id)
    assert lifted.suspension.state == overlays_pb2.SUSPENSION_STATE_LIFTED
    async with ems.stream(TOPIC, purpose="emergency-response", subscription="cut-off") as stream:
        await reaches(stream, lambda each: each.record.id == missed)
    whats = [change["what"] for change in desk.changes() if change["id"] == done.suspension.id]
    assert whats == ["suspended", "ratified", "lifted"]


async def test_a_suspended_principal_is_cut_off_alone(desk: Desk) -> None:
    async with suspended(desk, "ems-boss", "principal", "ems/paramedic-1") as suspension:
        assert not suspension.HasField("ratify_by_time")
        assert await refused(desk.of("ems").suspensions()) == "SUSPENDED"
        async with desk.live.caller("colleague").stream(TOPIC, purpose="emergency-response") as stream:
            await stream.opened()


async def test_a_suspended_topic_is_closed_for_everybody_and_still_unknown_to_others(desk: Desk) -> None:
    async with suspended(desk, "exchange-1", "topic", TOPIC):
        with pytest.raises(grpc.aio.AioRpcError) as published:
            await desk.publish(unique())
        assert failure_of(published.value).reason == "SUSPENDED"
        reasons = {}
        for name in ("ems", "partner-cert"):
            with pytest.raises(Failure) as ended:
                async with desk.live.caller(name).stream(TOPIC) as stream:
                    await stream.opened()
            reasons[name] = ended.value.reason
    assert reasons == {"ems": "SUSPENDED", "partner-cert": "TOPIC_NOT_FOUND"}


async def test_an_owners_records_wait_unseen_and_come_when_it_is_lifted(desk: Desk) -> None:
    ems, transport, held = desk.live.caller("ems"), desk.live.caller("transport"), unique()
    async with (
        suspended(desk, "owner", "agency", "ems") as suspension,
        ems.stream(TOPIC, purpose="emergency-response", position=LATEST) as waiting,
        transport.stream(TOPIC, position=LATEST) as free,
    ):
        await waiting.opened()
        await free.opened()
        await desk.publish(held)
        await reaches(free, lambda each: each.record.id == held)
        beats = await waiting.beats(3)
        assert all(beat.WhichOneof("message") == "heartbeat" for beat in beats), "nobody is told"
        await desk.of("owner").lift(suspension.id)
        (delivery,) = await asyncio.wait_for(waiting.deliveries(1), PATIENCE_S)
        assert delivery.record.id == held


async def test_an_owners_records_wait_for_another_agencys_principal_alone(desk: Desk) -> None:
    purpose, held = "emergency-response", unique()
    async with (
        desk.live.caller("ems").stream(TOPIC, purpose=purpose, position=LATEST) as waiting,
        desk.live.caller("colleague").stream(TOPIC, purpose=purpose, position=LATEST) as free,
    ):
        await waiting.opened()
        await free.opened()
        async with suspended(desk, "owner", "principal", "ems/paramedic-1"):
            await desk.publish(held)
            await reaches(free, lambda each: each.record.id == held)
            beats = await waiting.beats(3)
            assert all(beat.WhichOneof("message") == "heartbeat" for beat in beats), "nobody is told"
        (delivery,) = await asyncio.wait_for(waiting.deliveries(1), PATIENCE_S)
        assert delivery.record.id == held


async def test_a_withdrawn_record_is_gone_for_all_and_who_had_it_is_told(desk: Desk) -> None:
    gone, stays = unique(), unique()
    ems = desk.live.caller("ems")
    async with ems.stream(TOPIC, purpose="emergency-response", subscription="told") as stream:
        await desk.publish(gone, stays)
        had = await reaches(stream, lambda each: each.record.id == stays)
        assert gone in [each.record.id for each in had]
        done = await desk.of("owner").withdraw(SOURCE, gone, "wrong person", tell_reason=True)
        assert done.confirmation.took_ms >= 1
        (told,) = [each.withdrawal for each in await reaches(stream, is_withdrawal) if is_withdrawal(each)]
        assert (told.source, told.id, told.owner, told.reason) == (
            SOURCE,
            gone,
            "highway-patrol",
            "wrong person",
        )
        before = await desk.of("owner").withdrawal(SOURCE, gone)
        assert [(r.agency, r.subject, r.record_acknowledged) for r in before.recipients] == [
            ("ems", "", False)
        ]
        await stream.acknowledge(stream.seen[-1].batch.cursor)

        async def acknowledged() -> bool:
            (recipient,) = (await desk.of("owner").withdrawal(SOURCE, gone)).recipients
            return recipient.record_acknowledged and recipient.notice_acknowledged

        await eventually(acknowledged)
    (again,) = await desk.live.caller("highway-patrol").publish(TOPIC, named(gone))
    assert again.refused.reason == "RECORD_WITHDRAWN"
    async with ems.stream(TOPIC, purpose="emergency-response") as backlog:
        ids = [each.record.id for each in await reaches(backlog, is_withdrawal)]
        assert stays in ids
        assert gone not in ids
    replayed = [each.whole.id for each in await desk.replayed(ReplayRecordsRequest(topic=TOPIC))]
    assert stays in replayed
    assert gone not in replayed, "an auditor's replay hands it out"
    async with desk.live.caller("transport").stream(TOPIC) as other:
        await desk.publish(last := unique())
        seen = await reaches(other, lambda each: each.record.id == last)
        assert not any(is_withdrawal(each) or each.record.id == gone for each in seen)


async def test_others_learn_nothing_of_a_withdrawal(desk: Desk) -> None:
    gone = unique()
    await desk.publish(gone)
    assert await refused(desk.of("ems-boss").withdraw(SOURCE, gone, "x")) == "ADMINISTRATION_DENIED"
    assert await refused(desk.of("exchange-1").withdraw(SOURCE, gone, "x")) == "ADMINISTRATION_DENIED"
    await desk.of("owner").withdraw(SOURCE, gone, "never mind")
    answers = []
    for asked in (gone, unique()):
        with pytest.raises(EntenteClientError) as error:
            await desk.of("ems-boss").withdrawal(SOURCE, asked)
        answers.append((error.value.reason, error.value.message))
    assert answers[0] == answers[1] == (answers[0][0], answers[0][1])
    assert answers[0][0] == "WITHDRAWAL_NOT_FOUND"


async def test_who_may_not_administer_suspends_and_sees_nothing(desk: Desk) -> None:
    before = [change["what"] for change in desk.changes()].count("suspended")
    assert await refused(desk.of("ems").suspend("agency", "transport", "x")) == "ADMINISTRATION_DENIED"
    assert await refused(desk.of("auditor-1").suspend("agency", "ems", "x")) == "ADMINISTRATION_DENIED"
    assert await refused(desk.of("ems").suspensions()) == "ADMINISTRATION_DENIED"
    assert [change["what"] for change in desk.changes()].count("suspended") == before


async def test_under_load_nothing_is_released_once_a_suspension_has_returned(desk: Desk) -> None:
    """Counted from the ledger's entries and from what the streams were handed."""
    publishing = asyncio.create_task(_publish_on(desk))
    took_ms = []
    try:
        for _ in range(3):
            took_ms.append(await _suspend_under_load(desk))
    finally:
        publishing.cancel()
        await asyncio.wait([publishing])
    sys.stdout.write(f"a suspension under load takes {', '.join(f'{each:.0f}' for each in took_ms)} ms\n")


async def _publish_on(desk: Desk) -> None:
    """Steadily, until it is cancelled."""
    while True:
        await desk.publish(*(unique() for _ in range(10)))


async def _suspend_under_load(desk: Desk) -> float:
    """Milliseconds from the call to its return."""
    ems = desk.live.caller("ems")
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(ems.stream(TOPIC, purpose="emergency-response")) for _ in range(4)
        ]
        for stream in opened:
            await stream.next("batch")
        begun_s = time.monotonic()
        async with suspended(desk, "exchange-1", "agency", "ems"):
            took_ms = (time.monotonic() - begun_s) * 1000
            released = _released_to(desk, "ems")
            for stream in opened:
                assert (await asyncio.wait_for(stream.failure(), PATIENCE_S)).reason == "SUSPENDED"
            await desk.publish(unique())
            assert _released_to(desk, "ems") == released, "something was released after the suspension"
    return took_ms


def _released_to(desk: Desk, agency: str) -> int:
    """Entries by which something was handed out to the agency."""
    found = desk.live.ledger("delivery")
    return sum(1 for entry in found if entry["class"]["agency"] == agency and entry["count"])


async def test_the_ledger_of_all_this_is_sound_and_its_decisions_come_out_the_same(
    desk: Desk, opa_binary: Path
) -> None:
    """After everything above: notices stand among what was handed out, and owners' records waited."""
    auditor = Auditor(desk.live.directory, ("--ledger", str(desk.live.directory / "data")))
    verified = await asyncio.to_thread(auditor.verified)
    assert [each for each in verified["findings"] if each["severity"] == "fault"] == []
    replayed = await asyncio.to_thread(auditor.ask, "replay", "--opa", opa_binary)
    assert (replayed["differ"], replayed["unreadable_entries"]) == (0, 0)
    assert replayed["decisions"] == replayed["agree"] > 0
