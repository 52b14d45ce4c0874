"""Publishing: examine, decide, stamp, append, account, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.core.access import Access
from broker.core.cursor import Cursor, CursorBinding, CursorCodec
from broker.core.decide import Decider, Question, Ruling
from broker.core.evidence import Evidence
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.receipt import Receipt, ReceiptCodec
from broker.core.publication import Attempt, entries_of, publish_body
from broker.core.questions import publish_question
from broker.core.record.admission import Candidate, RecordLimits, stamp
from broker.core.record.examination import Examiner
from broker.errors import EntenteError, NoDecision, Reason, StorageUnavailable
from broker.model.decision import Decision
from broker.model.principal import Principal
from broker.model.record import Appended, AppendResult, LogTopic, NewRecord
from broker.model.registry import Registry, Topic
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.record_log import RecordLog
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


@dataclass(frozen=True, slots=True)
class Accepted:
    """A durable record; `position` is opaque, and so is `receipt`, which is that of the call's ledger entry."""

    position: bytes
    duplicate: bool
    receipt: bytes


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
        keys: Keys,
        clock: Clock,
        limits: RecordLimits,
    ) -> None:
        self._topics = topics
        self._access = access
        self._decider = decider
        self._log = log
        self._evidence = evidence
        self._codec = codec
        self._receipts = ReceiptCodec(keys)
        self._keys = keys
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
        examined = await self._examiner.examine(events, principal, topic)
        attempts = [
            Attempt(found) if isinstance(found, Candidate) else Attempt(None, refusal=found)
            for found in examined
        ]
        await self._decide(attempts, principal, topic)
        # A caller that hangs up meanwhile must not keep what is stored out of the ledger.
        storing = asyncio.ensure_future(self._store(principal, topic, attempts, reference))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def settle(self) -> None:
        """Wait until all that was stored is accounted for, also for callers that have gone."""
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _store(
        self, principal: Principal, topic: Topic, attempts: Sequence[Attempt], reference: str
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for part in entries_of(attempts):
            outcomes += await self._store_part(principal, topic, part, reference)
        return outcomes

    async def _store_part(
        self, principal: Principal, topic: Topic, attempts: Sequence[Attempt], reference: str
    ) -> list[Outcome]:
        """What one entry accounts for."""
        ready = [(attempt, attempt.record) for attempt in attempts if attempt.record is not None]
        results = await self._append(topic, [record for _, record in ready])
        for (attempt, _), result in zip(ready, results, strict=True):
            if isinstance(result, Appended):
                attempt.place = result
            else:
                attempt.refusal = EntenteError(Reason.ID_REUSED)
        secret = EntrySecret.fresh(self._keys)
        body = publish_body(principal, topic.name, reference, attempts, secret)
        receipt = Receipt(await self._evidence.write("publish", body), secret.secret)
        return self._outcomes(principal, topic, attempts, receipt)

    async def _decide(self, attempts: Sequence[Attempt], principal: Principal, topic: Topic) -> None:
        """Decide what was understood, and stamp what is permitted."""
        asked = [
            (attempt, publish_question(principal, topic.name, candidate.record_type, candidate.labels))
            for attempt in attempts
            if (candidate := attempt.candidate) is not None
        ]
        decided = await self._decided({question.key: question for _, question in asked})
        now_ms = self._clock.now_ms()
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        for attempt, question in asked:
            decision, attempt.ruling = decided[question.key]
            self._stamp(attempt, decision.permitted and decision.holds_at(now), principal, now_ms)

    async def _decided(self, questions: dict[bytes, Question]) -> dict[bytes, tuple[Decision, Ruling]]:
        try:
            decisions = await self._decider.decide(list(questions.values()))
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        decided = {}
        for question, decision in zip(questions.values(), decisions, strict=True):
            if decision is None:
                raise EntenteError(Reason.POLICY_UNAVAILABLE)
            decided[question.key] = decision, Ruling.of(question, decision)
        return decided

    def _stamp(self, attempt: Attempt, permitted: bool, principal: Principal, now_ms: int) -> None:
        candidate = attempt.candidate
        if candidate is None:
            return
        if not permitted:
            attempt.refusal = EntenteError(Reason.PUBLISH_DENIED, candidate.record_type.name)
            return
        try:
            attempt.record = stamp(candidate, principal, now_ms)
        except EntenteError as refusal:
            attempt.refusal = refusal

    async def _append(self, topic: Topic, records: list[NewRecord]) -> Sequence[AppendResult]:
        if not records:
            return []
        try:
            return await self._log.append(topic.name, records)
        except StorageUnavailable as error:
            raise EntenteError(Reason.STORAGE_FULL if error.full else Reason.STORAGE_UNAVAILABLE) from None

    def _outcomes(
        self, principal: Principal, topic: Topic, attempts: Sequence[Attempt], receipt: Receipt
    ) -> list[Outcome]:
        """The answers; all that one entry accounts for have one receipt."""
        incarnation = self._topics[topic.name].incarnation
        binding = CursorBinding(principal.agency, principal.subject, incarnation, "\0publish")
        holder, sealed = binding.associated_data(), b""
        outcomes: list[Outcome] = []
        for attempt in attempts:
            place = attempt.place
            if place is None:
                outcomes.append(attempt.refusal or EntenteError(Reason.INTERNAL))
                continue
            sealed = sealed or self._receipts.seal(receipt, principal.agency, principal.subject)
            position = self._codec.seal(Cursor((place.partition, place.offset), 0), holder)
            outcomes.append(Accepted(position, place.duplicate, sealed))
        return outcomes
