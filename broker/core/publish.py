"""Publishing: examine, decide, stamp, append, account, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from broker.core.answers import answers_to
from broker.core.cursor import CursorBinding, CursorCodec
from broker.core.evidence import Evidence
from broker.core.in_force import InForce, Order, OrderReplaced
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.receipt import Receipt, ReceiptCodec
from broker.core.publication import Attempt, entries_of, publish_body
from broker.core.questions import publish_question
from broker.core.record.admission import Candidate, stamp
from broker.core.regime import Regime
from broker.core.restrictions import require_unsuspended
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.model.principal import Principal
from broker.model.record import Appended, AppendResult, LogTopic, NewRecord
from broker.model.registry import Topic
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.record_log import RecordLog
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


class Accepted(NamedTuple):
    """A durable record; `position` is opaque, and so is `receipt`, which is that of the call's ledger entry."""

    position: bytes
    duplicate: bool
    receipt: bytes


Outcome = Accepted | EntenteError
"""What became of one record; an error is that record's refusal."""


class Publisher:
    """The publish use case."""

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        log: RecordLog,
        evidence: Evidence,
        codec: CursorCodec,
        keys: Keys,
        clock: Clock,
    ) -> None:
        self._in_force = in_force
        self._log = log
        self._evidence = evidence
        self._codec = codec
        self._receipts = ReceiptCodec(keys)
        self._keys = keys
        self._clock = clock
        self._storing: set[asyncio.Future[list[Outcome]]] = set()

    async def publish(
        self, principal: Principal, topic_name: str, events: Sequence[CloudEvent], reference: str
    ) -> list[Outcome]:
        """One outcome for each event, in order.

        Raises EntenteError: TOPIC_NOT_FOUND, SUSPENDED, POLICY_UNAVAILABLE, STORAGE_UNAVAILABLE, STORAGE_FULL,
        LEDGER_UNAVAILABLE; the call may then be repeated, since a stored record is acknowledged as a duplicate.
        """
        while True:
            order = self._in_force.present
            try:
                return await self._publish(order, principal, topic_name, events, reference)
            except OrderReplaced:
                continue  # before anything was stored: decide again by what is in force now
            except EntenteError as error:
                if error.reason is not Reason.POLICY_UNAVAILABLE or order is self._in_force.present:
                    raise  # else the engine of what was replaced meanwhile may have stopped

    async def _publish(
        self,
        order: Order[Regime],
        principal: Principal,
        topic_name: str,
        events: Sequence[CloudEvent],
        reference: str,
    ) -> list[Outcome]:
        topic = await order.regime.access.require_publish(principal, topic_name)
        require_unsuspended(order, principal, topic_name, self._clock.now_ms())
        examined = await order.regime.examiner.examine(events, principal, topic)
        attempts = [
            Attempt(found) if isinstance(found, Candidate) else Attempt(None, refusal=found)
            for found in examined
        ]
        await self._decide(order, attempts, principal, topic)
        # A caller that hangs up meanwhile must not keep what is stored out of the ledger.
        storing = asyncio.ensure_future(self._store(order, principal, topic, attempts, reference))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def settle(self) -> None:
        """Wait until all that was stored is accounted for, also for callers that have gone."""
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _store(
        self,
        order: Order[Regime],
        principal: Principal,
        topic: Topic,
        attempts: Sequence[Attempt],
        reference: str,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with self._in_force.passage(order):
            for part in entries_of(attempts):
                outcomes += await self._store_part(order, principal, topic, part, reference)
        return outcomes

    async def _store_part(
        self,
        order: Order[Regime],
        principal: Principal,
        topic: Topic,
        attempts: Sequence[Attempt],
        reference: str,
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
        body = publish_body(principal, topic.name, reference, attempts, secret, order.regime.rules)
        receipt = Receipt(await self._evidence.write("publish", body, order=order), secret.secret)
        return self._outcomes(principal, order.regime.topics[topic.name], attempts, receipt)

    async def _decide(
        self, order: Order[Regime], attempts: Sequence[Attempt], principal: Principal, topic: Topic
    ) -> None:
        """Decide what was understood, and stamp what is permitted."""
        # One call's records are of few kinds, and making a question costs more than all else here.
        kinds = dict.fromkeys(attempt.candidate.kind for attempt in attempts if attempt.candidate is not None)
        questions = {
            kind: publish_question(principal, topic.name, kind.record_type, kind.labels) for kind in kinds
        }
        distinct = {question.key: question for question in questions.values()}
        answers = await answers_to(list(distinct.values()), order.regime.decider, self._clock)
        answered = {answer.question.key: (answer.permitted, answer.ruling) for answer in answers}
        decided = {kind: answered[question.key] for kind, question in questions.items()}
        now_ms = self._clock.now_ms()
        for attempt in attempts:
            if (candidate := attempt.candidate) is None:
                continue
            permitted, attempt.ruling = decided[candidate.kind]
            self._stamp(attempt, permitted, principal, now_ms)
            if attempt.record is not None and order.judge.is_withdrawn(attempt.record.identity):
                attempt.record, attempt.refusal = None, EntenteError(Reason.RECORD_WITHDRAWN)

    def _stamp(self, attempt: Attempt, permitted: bool, principal: Principal, now_ms: int) -> None:
        candidate = attempt.candidate
        if candidate is None:
            return
        if not permitted:
            attempt.refusal = EntenteError(Reason.PUBLISH_DENIED, candidate.kind.record_type.name)
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
        self, principal: Principal, topic: LogTopic, attempts: Sequence[Attempt], receipt: Receipt
    ) -> list[Outcome]:
        """The answers; all that one entry accounts for have one receipt."""
        binding = CursorBinding(principal.agency, principal.subject, topic.incarnation, "\0publish")
        places = [(a.place.partition, a.place.offset) for a in attempts if a.place is not None]
        positions = iter(self._codec.seal_all(places, 0, binding.associated_data()))
        sealed = self._receipts.seal(receipt, principal.agency, principal.subject) if places else b""
        return [
            Accepted(next(positions), attempt.place.duplicate, sealed)
            if attempt.place is not None
            else attempt.refusal or EntenteError(Reason.INTERNAL)
            for attempt in attempts
        ]
