"""Sees to what follows from overlays: notices of withdrawals, and that a suspension's end by its time is in the ledger.

Every instance does, so that it is done whoever stops. The one that was asked begins at once; the others follow one by one
if it has not been done for so long that those before are likely gone. What two do at once is done once, or twice alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass

from broker.core.audit.fresh import FreshIndex, reading
from broker.core.control.desk import ControlDesk
from broker.core.control.fold import EventVoid
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.handed_out import content_digest, item_keys
from broker.core.overlay.events import brief_body, withdrawal_body
from broker.core.overlay.notice import SOURCE, TYPE, key_of_partition, notice_id, notice_record
from broker.core.regime import Regime
from broker.errors import EntenteError, StorageUnavailable, fault_place
from broker.model.audit import Publication
from broker.model.decision import Effect
from broker.model.ledger import JsonValue
from broker.model.overlay import Suspension, Withdrawal
from broker.model.record import Appended, NewRecord
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.record_log import RecordLog

log = logging.getLogger(__name__)

LOOK_S = 1.0
TURN_S = 15.0
"""How long each instance leaves to those before it."""

_ANNOUNCED = "announced"


@dataclass(frozen=True, slots=True)
class AnnouncerTools:
    """What it works with. instance: this one's name."""

    control: ControlDesk
    ledger: FreshIndex
    record_log: RecordLog
    in_force: InForce[Regime]
    evidence: Evidence
    keys: Keys
    clock: Clock
    instance: str


class Announcer:
    """Runs beside the exchange; used from the event loop only."""

    def __init__(self, tools: AnnouncerTools) -> None:
        self._tools = tools
        self._seen = 0
        self._pending: dict[bytes, float] = {}
        self._confirmed: set[bytes] = set()
        self._over: dict[str, float] = {}
        self._due = asyncio.Event()

    def confirmed(self, identity: bytes) -> None:
        """No instance hands this withdrawn record out any more: its notices can be made."""
        self._confirmed.add(identity)
        self._due.set()

    async def run(self) -> None:
        """Until it is cancelled. What cannot be done now is tried again."""
        while True:
            self._due.clear()
            try:
                await self.look()
            except (EntenteError, StorageUnavailable) as error:
                log.warning("what follows from suspensions and withdrawals waits: %s", error)
            except Exception as error:  # noqa: BLE001 - the exchange goes on, and so does this
                log.error("what follows from suspensions and withdrawals failed: %s", fault_place(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._due.wait()

    async def look(self) -> None:
        """Once through what is to be done; what fails, however it does, holds up nothing else. Raises one such failure."""
        failed: Exception | None = None
        for work in self._due_now():
            try:
                await work
            except (EntenteError, StorageUnavailable) as error:
                failed = failed or error
            except Exception as error:  # noqa: BLE001 - raised when all have had their turn
                failed = error
        if failed is not None:
            raise failed

    def _due_now(self) -> Iterator[Awaitable[None]]:
        now_s = self._tools.clock.monotonic_s()
        self._find(now_s)
        fold = self._tools.control.state.overlays
        now_ms = self._tools.clock.now_ms()
        over = [each for each in fold.overlays.suspensions.values() if not each.holds_at(now_ms)]
        self._over = {each.id: self._over.get(each.id, now_s) for each in over}
        for suspension in over:
            if now_s - self._over[suspension.id] >= self._turn_s(""):
                yield self._end(suspension)
        for identity, since_s in list(self._pending.items()):
            withdrawal = fold.overlays.withdrawn[identity]
            if identity in fold.announced:
                del self._pending[identity]
                self._confirmed.discard(identity)
            elif identity in self._confirmed or now_s - since_s >= self._turn_s(withdrawal.instance):
                yield self._announce(withdrawal)

    def _find(self, now_s: float) -> None:
        """What was withdrawn since the last look."""
        fold = self._tools.control.state.overlays
        for withdrawal in fold.withdrawn.newest(len(fold.withdrawn) - self._seen):
            if withdrawal.identity not in fold.announced:
                self._pending.setdefault(withdrawal.identity, now_s)
        self._seen = len(fold.withdrawn)

    def _turn_s(self, first: str) -> float:
        """How long this instance waits: not at all if it is the first, else for its turn among the members."""
        names = sorted(self._tools.control.state.members.present)
        if first in names:
            names = [first, *(name for name in names if name != first)]
        mine = self._tools.instance
        return TURN_S * (names.index(mine) if mine in names else len(names))

    # ---- suspensions ----

    async def _end(self, suspension: Suspension) -> None:
        """Nothing restricts any more; this makes it known, and takes it off the list of those that do."""
        change: dict[str, JsonValue] = {
            "what": _ANNOUNCED,
            **brief_body(suspension),
            "cause": suspension.end_cause.value,
        }
        await self._write(suspension.by_agency, suspension.by_subject, change)
        with contextlib.suppress(EventVoid):
            await self._tools.control.record(_ANNOUNCED, {"id": suspension.id})
        log.warning("a suspension is over: id=%s cause=%s", suspension.id, change["cause"])

    # ---- withdrawals ----

    async def _announce(self, withdrawal: Withdrawal) -> None:
        """Tell everybody who was handed the record, in the log of the topic on which that was."""
        if withdrawal.identity not in self._confirmed:
            # Whoever was asked may have stopped before all had confirmed; until then somebody could still be handed it.
            await self._tools.control.enact("withdrawn", withdrawal_body(withdrawal))
            self._confirmed.add(withdrawal.identity)
        _, index = await self._tools.ledger.updated()
        with reading():
            publications = await index.publications(withdrawal.source, withdrawal.id)
            sightings = await index.sightings(withdrawal.source, withdrawal.id)
        notices: list[JsonValue] = []
        for topic, publication in {each.topic: each for each in publications}.items():
            agencies = {s.agency for s in sightings if s.topic == topic and s.effect == Effect.RELEASE.value}
            if agencies and topic in self._tools.in_force.present.regime.topics:
                await self._append(withdrawal, publication, sorted(agencies))
                notices.append({"topic": topic, "agencies": list[JsonValue](sorted(agencies))})
        named: dict[str, JsonValue] = {"source": withdrawal.source, "id": withdrawal.id}
        await self._write(
            withdrawal.by_agency,
            withdrawal.by_subject,
            {"what": _ANNOUNCED, **named, "owner": withdrawal.owner, "notices": notices},
        )
        with contextlib.suppress(EventVoid):
            await self._tools.control.record(_ANNOUNCED, named)

    async def _append(
        self, withdrawal: Withdrawal, publication: Publication, agencies: Sequence[str]
    ) -> None:
        """The notice, and the entry that says where it is. One that is there already stays as it is."""
        tools = self._tools
        regime = tools.in_force.present.regime
        topic = regime.topics[publication.topic]
        owner = regime.registry.agencies.get(withdrawal.owner)
        key = key_of_partition(withdrawal, publication.partition, topic.partitions)
        contact = owner.contact if owner is not None else ""
        now_ms = tools.clock.now_ms()
        record = notice_record(withdrawal, publication.type, contact, agencies, now_ms, key)
        (result,) = await tools.record_log.append(topic.name, [record])
        if isinstance(result, Appended):
            body = self._published(withdrawal, topic.name, record, result)
            await tools.evidence.write("publish", body)

    def _published(
        self, withdrawal: Withdrawal, topic: str, record: NewRecord, place: Appended
    ) -> dict[str, JsonValue]:
        """The body of the notice's `publish` entry: in the name of whoever withdrew the record."""
        secret = EntrySecret.fresh(self._tools.keys)
        (key,) = item_keys(secret.secret, 1)
        row: dict[str, JsonValue] = {
            "source": SOURCE,
            "id": notice_id(withdrawal),
            "type": TYPE,
            "labels": {},
            "duplicate": place.duplicate,
            "digest": content_digest(key, record.digest).hex(),
        }
        return {
            "who": _on_behalf_of(withdrawal.by_agency, withdrawal.by_subject),
            "call": {"topic": topic, "reference": ""},
            "records": [row],
            "stored": [[place.partition, place.offset]],
            "decisions": [],
            "digest": secret.as_json(),
        }

    async def _write(self, agency: str, subject: str, change: dict[str, JsonValue]) -> None:
        body: dict[str, JsonValue] = {
            "who": _on_behalf_of(agency, subject),
            "change": change,
            "decisions": [],
        }
        await self._tools.evidence.write("overlay_changed", body)


def _on_behalf_of(agency: str, subject: str) -> JsonValue:
    """Whoever caused it, without the call by which they did."""
    nothing: dict[str, JsonValue] = {"roles": [], "attributes": {}, "token": "", "certificate": None}
    return {"agency": agency, "subject": subject, **nothing}
