"""Opening a stream and what happens on it: start position, takeover, acknowledgements, refresh, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker.core.acknowledgements import Acknowledgements
from broker.core.claims import Claims, OpenRequest
from broker.core.cursor import CursorBinding, CursorCodec
from broker.core.decide import Ruling
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.history import History
from broker.core.deliver.session import Session
from broker.core.deliver.standing import Standing
from broker.core.evidence import Evidence, decisions, list_of, who
from broker.core.in_force import InForce, Order, OrderReplaced
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.moves import Cause, moved_body, stream_part
from broker.core.places import Places
from broker.core.regime import Regime
from broker.core.restrictions import require_unsuspended
from broker.errors import EntenteError, EpochConflict, Reason, StorageUnavailable, Told
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.clock import Clock
from broker.ports.subscription_store import SubscriptionStore


class Streams:
    """The subscribe use case."""

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        places: Places,
        store: SubscriptionStore,
        fanout: FanOut,
        evidence: Evidence,
        codec: CursorCodec,
        receipts: ReceiptCodec,
        clock: Clock,
        buffer_limit_bytes: int,
        limit_per_principal: int,
    ) -> None:
        self._in_force = in_force
        self._places = places
        self._store = store
        self._fanout = fanout
        self._evidence = evidence
        self._codec = codec
        self._receipts = receipts
        self._acknowledgements = Acknowledgements(evidence)
        self._claims = Claims(
            places=places,
            store=store,
            fanout=fanout,
            evidence=evidence,
            clock=clock,
            limit_per_principal=limit_per_principal,
        )
        self._clock = clock
        self._buffer_limit_bytes = buffer_limit_bytes

    async def open(self, principal: Principal, request: OpenRequest) -> Session:
        """A session that is served as soon as it has credit; its opening is in the ledger.

        Raises EntenteError: see Exchange.Subscribe.
        """
        order, rulings = await self._permitted(principal, request.topic, request.purpose)
        topic = order.regime.topics[request.topic]
        binding = CursorBinding(principal.agency, principal.subject, topic.incarnation, request.subscription)
        begin = await self._claims.begin(principal, request, topic, binding)
        positions = await self._places.within_retention(
            request.topic, begin.positions, earliest_on_expired=request.earliest_on_expired
        )
        session = Session(
            principal=principal,
            admitted=order.regime,
            rulings=rulings,
            purpose=request.purpose,
            topic=request.topic,
            binding=binding,
            epoch=begin.epoch,
            standing=Standing(positions),
            codec=self._codec,
            receipts=self._receipts,
            buffer_limit_bytes=self._buffer_limit_bytes,
            buffers=self._fanout.buffers,
        )
        cause = begin.cause if positions == begin.positions else Cause.EXPIRED
        came_from = begin.positions if request.subscription else None
        moved = moved_body(_of(session), came_from, positions, cause)
        while True:
            try:
                with self._in_force.passage(order):
                    await self._begin(session, order, moved)
                    return session
            except OrderReplaced:
                order, session.rulings = await self._permitted(principal, request.topic, request.purpose)
                session.admitted = order.regime

    async def _permitted(
        self, principal: Principal, topic: str, purpose: str
    ) -> tuple[Order[Regime], tuple[Ruling, ...]]:
        """The order that is in force once it has permitted the stream, and its decisions."""
        while True:
            order = self._in_force.present
            try:
                rulings = await order.regime.access.require_subscribe(principal, topic, purpose)
            except EntenteError as error:
                if error.reason is not Reason.POLICY_UNAVAILABLE or order is self._in_force.present:
                    raise
                continue  # the engine of what was replaced meanwhile may have stopped
            if order is self._in_force.present:
                require_unsuspended(order, principal, topic, self._clock.now_ms())
                return order, rulings

    async def _begin(self, session: Session, order: Order[Regime], moved: Mapping[str, JsonValue]) -> None:
        opened = {**_of(session), "decisions": decisions(session.rulings, order.regime.rules)}
        await self._evidence.write_all(
            [
                self._evidence.entry("stream_opened", opened, order=order),
                self._evidence.entry("moved", moved, order=order),
            ]
        )
        self._fanout.begin(session)

    async def acknowledge(self, session: Session, sealed: bytes) -> None:
        """Store the position that the cursor holds, durably; an older one changes nothing.

        Raises EntenteError CURSOR_INVALID, ACK_REFUSED (not this stream's, or taken over), STORAGE_UNAVAILABLE.
        """
        cursor = session.open_cursor(sealed)
        key = session.subscription_key
        try:
            if key is not None:
                await self._store.commit(key, session.epoch, cursor.positions, self._clock.now_ms())
        except EpochConflict:
            raise EntenteError(Reason.ACK_REFUSED) from None
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None
        self._acknowledgements.note(session, cursor.positions)

    async def refresh(self, session: Session, principal: Principal) -> None:
        """Go on under a new token of the same principal; a changed class is decided anew.

        Raises EntenteError REFRESH_REFUSED, PURPOSE_NOT_PERMITTED, POLICY_DENIED, SUSPENDED, LEDGER_UNAVAILABLE.
        """
        if principal.key != session.principal.key:
            raise EntenteError(Reason.REFRESH_REFUSED)
        try:
            order, rulings = await self._permitted(principal, session.topic, session.purpose)
        except EntenteError as error:
            # An open stream tells no secret by naming its topic's owner as the one to ask.
            raise (
                EntenteError(Reason.POLICY_DENIED, decisions=error.decisions)
                if error.reason is Reason.TOPIC_NOT_FOUND
                else error
            ) from None
        changed = principal.subject_class(session.purpose) != session.subject_class
        if changed:
            session.away = True
            self._fanout.remove(session)
            await session.accounted()
        session.principal, session.admitted, session.rulings = principal, order.regime, rulings
        if changed and session.history.until != session.standing:
            # Named in an entry that became durable meanwhile, and handed nothing of what was decided for the old class.
            session.accounting = asyncio.ensure_future(self._move_back(session))
            await asyncio.shield(session.accounting)
        session.away = False
        self._fanout.resume(session)

    async def close(self, session: Session, cause: str, why: Sequence[Told] = ()) -> None:
        """Serve the session no more and account for its end; an entry that cannot be written now is written later.

        why: the decisions by which the stream had to end, if it ended by decisions.
        """
        self._fanout.end(session)
        await session.accounted()
        rules = self._evidence.rules
        end: dict[str, JsonValue] = {"cause": cause, "standing": session.history.until.as_json()}
        if why:
            end["decisions"] = decisions(why, rules)
        considered = list_of([session.history.as_json(rules)])
        body = {**_of(session), "end": end, "considered": considered}
        await self._acknowledgements.close(session, self._evidence.entry("stream_closed", body))

    async def settle(self) -> None:
        """Write what is not yet written of streams that have ended."""
        await self._acknowledgements.settle()

    async def _move_back(self, session: Session) -> None:
        """The stream goes on from where it really stands, as a stream that is resumed from its cursor would."""
        try:
            told, standing = session.history.until.cursor, Standing(session.standing.cursor)
            body = moved_body(_of(session), told, standing.next, Cause.REFRESHED)
            await self._evidence.write_all([self._evidence.entry("moved", body)], patient=True)
            session.standing, session.history = standing, History.begin(standing)
        finally:
            session.accounting = None


def _of(session: Session) -> dict[str, JsonValue]:
    part = stream_part(
        session.topic, session.purpose, session.binding.subscription, session.epoch, session.stream
    )
    return {"who": who(session.principal), "stream": part}
