"""Publishing: examine, decide, stamp, append, account, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.core.access import Access
from broker.core.cursor import Cursor, CursorBinding, CursorCodec
from broker.core.decide import Decider, Question
from broker.core.evidence import Evidence, list_of, who
from broker.core.questions import publish_question
from broker.core.record.admission import Candidate, RecordLimits, stamp
from broker.core.record.examination import Examiner
from broker.errors import EntenteError, NoDecision, Reason, StorageUnavailable
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.model.record import Appended, IdReused, LogTopic, NewRecord
from broker.model.registry import Registry, Topic
from broker.ports.clock import Clock
from broker.ports.record_log import RecordLog
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


@dataclass(frozen=True, slots=True)
class Accepted:
    """A durable record; `position` is opaque."""

    position: bytes
    duplicate: bool


Outcome = Accepted | EntenteError
"""What became of one record; an error is that record's refusal."""


class Publisher:
    """The publish use case of one revision."""

    def __init__(
        self,
        *,
        registry: Registry,
        topics: dict[str, LogTopic],
        access: Access,
        decider: Decider,
        log: RecordLog,
        evidence: Evidence,
        codec: CursorCodec,
        clock: Clock,
        limits: RecordLimits,
    ) -> None:
        self._registry = registry
        self._topics = topics
        self._access = access
        self._decider = decider
        self._log = log
        self._evidence = evidence
        self._codec = codec
        self._clock = clock
        self._examiner = Examiner(registry, limits)
        self._storing: set[asyncio.Future[list[Outcome]]] = set()

    async def publish(
        self, principal: Principal, topic_name: str, events: Sequence[CloudEvent], reference: str
    ) -> list[Outcome]:
        """One outcome for each event, in order.

        Raises EntenteError: TOPIC_NOT_FOUND, POLICY_UNAVAILABLE, STORAGE_UNAVAILABLE, STORAGE_FULL, LEDGER_UNAVAILABLE; the
        call may then be repeated, since a record that was stored is acknowledged as a duplicate.
        """
        topic = await self._access.require_publish(principal, topic_name)
        candidates = await self._examiner.examine(events, principal, topic)
        prepared = await self._decide(candidates, principal, topic)
        # A caller that hangs up meanwhile must not keep what is stored out of the ledger.
        storing = asyncio.ensure_future(self._store(principal, topic, candidates, prepared, reference))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def settle(self) -> None:
        """Wait until all that was stored is accounted for, also for callers that have gone."""
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _store(
        self,
        principal: Principal,
        topic: Topic,
        candidates: Sequence[Candidate | EntenteError],
        prepared: Sequence[NewRecord | EntenteError],
        reference: str,
    ) -> list[Outcome]:
        stored = await self._append(topic, [p for p in prepared if isinstance(p, NewRecord)])
        outcomes, places = self._settle(principal, topic, prepared, stored)
        rows = list_of([_row(*row) for row in zip(candidates, outcomes, places, strict=True)])
        body: dict[str, JsonValue] = {"who": who(principal), "topic": topic.name, "records": rows}
        await self._evidence.write("publish", body | {"reference": reference})
        return outcomes

    async def _decide(
        self, candidates: Sequence[Candidate | EntenteError], principal: Principal, topic: Topic
    ) -> list[NewRecord | EntenteError]:
        questions = {
            index: publish_question(principal, topic.name, candidate.record_type, candidate.labels)
            for index, candidate in enumerate(candidates)
            if isinstance(candidate, Candidate)
        }
        permitted = await self._permitted(questions)
        now_ms = self._clock.now_ms()
        return [
            self._stamp(candidate, permitted.get(index, False), principal, now_ms)
            for index, candidate in enumerate(candidates)
        ]

    async def _permitted(self, questions: dict[int, Question]) -> dict[int, bool]:
        distinct = {question.key: question for question in questions.values()}
        try:
            decisions = await self._decider.decide(list(distinct.values()))
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        if any(decision is None for decision in decisions):
            raise EntenteError(Reason.POLICY_UNAVAILABLE)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        by_key = {
            key: d is not None and d.permitted and d.holds_at(now)
            for key, d in zip(distinct, decisions, strict=True)
        }
        return {index: by_key[question.key] for index, question in questions.items()}

    def _stamp(
        self, candidate: Candidate | EntenteError, permitted: bool, principal: Principal, now_ms: int
    ) -> NewRecord | EntenteError:
        if isinstance(candidate, EntenteError):
            return candidate
        if not permitted:
            return EntenteError(Reason.PUBLISH_DENIED, candidate.record_type.name)
        try:
            return stamp(candidate, principal, now_ms)
        except EntenteError as refusal:
            return refusal

    async def _append(self, topic: Topic, records: list[NewRecord]) -> list[Appended | IdReused]:
        if not records:
            return []
        try:
            return list(await self._log.append(topic.name, records))
        except StorageUnavailable as error:
            raise EntenteError(Reason.STORAGE_FULL if error.full else Reason.STORAGE_UNAVAILABLE) from None

    def _settle(
        self,
        principal: Principal,
        topic: Topic,
        prepared: Sequence[NewRecord | EntenteError],
        stored: list[Appended | IdReused],
    ) -> tuple[list[Outcome], list[Appended | None]]:
        incarnation = self._topics[topic.name].incarnation
        binding = CursorBinding(
            principal.agency, principal.subject, incarnation, "\0publish"
        ).associated_data()
        results = iter(stored)
        outcomes: list[Outcome] = []
        places: list[Appended | None] = []
        for record in prepared:
            result = next(results) if isinstance(record, NewRecord) else None
            place = result if isinstance(result, Appended) else None
            places.append(place)
            if place is not None:
                position = self._codec.seal(Cursor((place.partition, place.offset), 0), binding)
                outcomes.append(Accepted(position, place.duplicate))
            else:
                outcomes.append(
                    record if isinstance(record, EntenteError) else EntenteError(Reason.ID_REUSED)
                )
        return outcomes, places


def _row(candidate: Candidate | EntenteError, outcome: Outcome, place: Appended | None) -> JsonValue:
    row: dict[str, JsonValue] = {}
    if isinstance(candidate, Candidate):
        labels = candidate.labels
        row = {
            "source": candidate.event.source,
            "id": candidate.event.id,
            "type": candidate.record_type.name,
            "labels": {
                "dataclassification": labels.dataclassification,
                "dataregulation": list(labels.dataregulation),
                "datacategory": labels.datacategory,
                "purposes": list(labels.purposes),
                "releasableto": list(labels.releasableto),
            },
        }
    if place is not None:
        row |= {"partition": place.partition, "offset": place.offset, "duplicate": place.duplicate}
    if isinstance(outcome, EntenteError):
        row["refused"] = outcome.reason.name
    return row
