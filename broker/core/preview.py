"""Dry runs: what each party of the caller's agreements would receive of a record. Nothing is stored or released."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from broker.core.deliver.prepare import why_withheld
from broker.core.deliver.view import RecordViews
from broker.core.evidence import Evidence, who
from broker.core.in_force import InForce, Order, OrderReplaced
from broker.core.questions import deliver_question
from broker.core.record.admission import Candidate, stamp
from broker.core.redact.fieldmap import FieldMap
from broker.core.redact.plan import Unredactable
from broker.core.redact.unreviewed import unreviewed_paths
from broker.core.regime import Regime
from broker.core.restrictions import require_unsuspended
from broker.errors import EntenteError, NoDecision, Reason
from broker.model.decision import Effect
from broker.model.ledger import JsonValue
from broker.model.principal import Principal, SubjectClass
from broker.model.record import StoredRecord
from broker.model.registry import Topic
from broker.ports.clock import Clock
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

PREVIEW_BYTES = 32 << 20
"""The most that one call may have redacted, and so answered: it is the size of the records times that of the audience."""


@dataclass(frozen=True, slots=True)
class PartyOutlook:
    """What one agency would receive for one purpose in any one of `roles`; `delivery` only where it is a record."""

    agency: str
    purpose: str
    roles: tuple[str, ...]
    effect: Effect
    delivery: exchange_pb2.Delivery | None


@dataclass(frozen=True, slots=True)
class RecordOutlook:
    """A record's refusal, or its parties and the paths that no field map names."""

    refusal: EntenteError | None
    parties: tuple[PartyOutlook, ...] = ()
    unreviewed_paths: tuple[str, ...] = ()


class Previewer:
    """The preview use case."""

    def __init__(self, *, in_force: InForce[Regime], evidence: Evidence, clock: Clock) -> None:
        self._in_force = in_force
        self._evidence = evidence
        self._clock = clock

    async def preview(
        self, principal: Principal, topic_name: str, events: Sequence[CloudEvent], reference: str
    ) -> list[RecordOutlook]:
        """One outlook for each event, in order. Raises EntenteError TOPIC_NOT_FOUND, POLICY_UNAVAILABLE."""
        while True:
            order = self._in_force.present
            topic = await order.regime.access.require_publish(principal, topic_name)
            require_unsuspended(order, principal, topic_name, self._clock.now_ms())
            asked: JsonValue = {"topic": topic_name, "reference": reference, "records": len(events)}
            await self._evidence.write("preview", {"who": who(principal), "call": asked}, order=order)
            parties = list(_parties(order.regime, principal, topic))
            if sum(event.ByteSize() for event in events) * len(parties) > PREVIEW_BYTES:
                raise EntenteError(
                    Reason.LIMIT_EXCEEDED, f"{PREVIEW_BYTES} bytes, each record counted for each party"
                )
            shown = [await self._outlook(order, event, principal, topic, parties) for event in events]
            with suppress(OrderReplaced), self._in_force.passage(order):
                return shown

    async def _outlook(
        self,
        order: Order[Regime],
        event: CloudEvent,
        principal: Principal,
        topic: Topic,
        subjects: Sequence[SubjectClass],
    ) -> RecordOutlook:
        (candidate,) = await order.regime.examiner.examine([event], principal, topic, keep_documents=True)
        try:
            if isinstance(candidate, EntenteError):
                raise candidate
            record = stamp(candidate, principal, self._clock.now_ms())
        except EntenteError as refusal:
            return RecordOutlook(refusal)
        stored = StoredRecord(0, 0, record.recorded_ms, record.body)
        parties = []
        for subject in subjects:
            parties.append(await self._party(order, topic, stored, subject))
            await asyncio.sleep(0)  # decisions that are remembered give nobody else a turn
        return RecordOutlook(None, _united(parties), await asyncio.to_thread(_unreviewed, candidate))

    async def _party(
        self, order: Order[Regime], topic: Topic, stored: StoredRecord, subject: SubjectClass
    ) -> PartyOutlook:
        regime, judge = order.regime, order.judge
        # A view of its own: the preview's place is no place in the log, so nothing of it may be cached.
        view = RecordViews(regime.registry).view(topic.name, stored)
        if view.label_set is None:
            raise EntenteError(Reason.INTERNAL)
        labels = view.label_set
        question = deliver_question(subject, topic.name, labels.record_type, labels.owner, labels.labels)
        try:
            decision = await regime.decider.ask(question)
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        if why_withheld(view, decision, judge, self._clock.now_ms()) is not None:
            return PartyOutlook(subject.agency, subject.purpose, subject.roles, Effect.WITHHOLD, None)
        if decision.effect is not Effect.RELEASE:
            return PartyOutlook(subject.agency, subject.purpose, subject.roles, decision.effect, None)
        try:
            treated = regime.discloser.treat(decision, labels, subject)
            encoded = await regime.discloser.encode_in_turn(view, treated, subject)
        except Unredactable:
            return PartyOutlook(subject.agency, subject.purpose, subject.roles, Effect.WITHHOLD, None)
        delivery = exchange_pb2.Batch.FromString(encoded.entry).deliveries[0]
        return PartyOutlook(subject.agency, subject.purpose, subject.roles, Effect.RELEASE, delivery)


def _parties(regime: Regime, principal: Principal, topic: Topic) -> Iterable[SubjectClass]:
    """A class for each agreement, purpose and role, with the highest attributes that the registration permits.

    Roles are asked about one by one: a rule for one role may restrict what another would see, and an outlook for all
    of them at once would then promise too little.
    """
    seen: set[SubjectClass] = set()
    for agreement in regime.registry.granted_by(principal.agency):
        if topic.name not in agreement.topics:
            continue
        agency = regime.registry.agencies[agreement.consumer]
        for purpose in agreement.purposes:
            attributes = tuple(sorted(agency.attributes.items()))
            seen.update(SubjectClass(agency.name, (role,), attributes, purpose) for role in agency.roles)
    return sorted(seen, key=lambda subject: (subject.agency, subject.purpose, subject.roles))


def _united(parties: Iterable[PartyOutlook]) -> tuple[PartyOutlook, ...]:
    """One outlook for all roles of an agency and purpose that are treated alike."""
    alike: dict[tuple[str, str, Effect, bytes], PartyOutlook] = {}
    for party in parties:
        shown = party.delivery.SerializeToString(deterministic=True) if party.delivery else b""
        key = (party.agency, party.purpose, party.effect, shown)
        roles = alike[key].roles if key in alike else ()
        alike[key] = replace(party, roles=(*roles, *party.roles))
    return tuple(alike.values())


def _unreviewed(candidate: Candidate) -> tuple[str, ...]:
    if candidate.document is None:
        return ()
    return unreviewed_paths(candidate.document, FieldMap.compile(candidate.kind.record_type.fields))
