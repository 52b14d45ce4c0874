"""Who may be served by the rules in force: streams that earlier rules admitted are judged anew after a switch.

Nothing is released to a stream that the rules in force have not admitted (see Group), so nobody has to be quick here, and
without a decision a stream waits. What it may do is asked in full: its token's standing, its topic, its purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from broker.core.decide import Ruling
from broker.core.deliver.outcomes import Seen, is_permitted_otherwise, is_shown_otherwise
from broker.core.deliver.session import Outgoing, Session
from broker.core.deliver.wire import POLICY_CHANGE
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.errors import EntenteError, NoDecision, Reason, fault_place

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Streams that are judged before others have their turn."""

RETRY_S = 0.25
"""Between two attempts where there was no decision."""

_NO_ANSWER = frozenset({Reason.POLICY_UNAVAILABLE, Reason.ISSUER_UNAVAILABLE})


class Admissions:
    """The streams that wait to be judged; used from the event loop only."""

    def __init__(
        self,
        in_force: InForce[Regime],
        admitted: Callable[[Session], None],
        seen: Callable[[Session], Seen | None],
    ) -> None:
        """admitted: called for each stream that may be served again. seen: what its class has met, as it is shown now."""
        self._in_force = in_force
        self._admitted = admitted
        self._seen = seen
        self._pending: dict[Session, Seen | None] = {}
        self._asked: list[asyncio.Future[None]] = []
        self._more = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def add(self, sessions: Iterable[Session], seen: Mapping[Session, Seen] | None = None) -> None:
        """Streams that the rules in force have not admitted; seen: what each was shown before, as far as it is known.

        Of a stream that still waits from an earlier switch, what it was shown before that counts.
        """
        for session in sessions:
            self._pending.setdefault(session, (seen or {}).get(session))
        self._more.set()
        if self._pending and (self._worker is None or self._worker.done()):
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def discard(self, session: Session) -> None:
        """The stream is over."""
        self._pending.pop(session, None)

    async def ask(self, sessions: Sequence[Session], regime: Regime) -> None:
        """Have a regime that is not in force yet decide about streams; what it says counts only once it is."""
        for begin in range(0, len(sessions), AT_ONCE):
            part = sessions[begin : begin + AT_ONCE]
            asked = [regime.access.require_subscribe(s.principal, s.topic, s.purpose) for s in part]
            await asyncio.gather(*asked, return_exceptions=True)

    def judged_once(self) -> asyncio.Future[None]:
        """Done when every stream that waits now was judged, or turned out to have no decision yet."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(over)
        if not self._pending:
            _tell([over])
        return over

    async def close(self) -> None:
        """Judge nobody any more."""
        self._pending.clear()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        """Rounds until nobody waits."""
        asked: list[asyncio.Future[None]] = []
        try:
            while self._pending:
                self._more.clear()
                asked, self._asked = self._asked, []
                await self._round()
                _tell(asked)
                if self._pending:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_S):
                            await self._more.wait()
        finally:
            _tell([*asked, *self._asked])
            self._asked = []

    async def _round(self) -> None:
        alike: dict[Seen | None, list[Session]] = {}
        for session, seen in self._pending.items():
            alike.setdefault(seen, []).append(session)
        # Apart, so that a class about which there is no decision does not hold up the others.
        await asyncio.gather(*(self._judge_class(seen, sessions) for seen, sessions in alike.items()))

    async def _judge_class(self, seen: Seen | None, sessions: Sequence[Session]) -> None:
        try:
            regime = self._in_force.present.regime
            now = self._seen(sessions[0])
            otherwise = False if seen is None or now is None else await is_shown_otherwise(seen, now)
            for begin in range(0, len(sessions), AT_ONCE):
                part = sessions[begin : begin + AT_ONCE]
                await asyncio.gather(*(self._judge(regime, session, otherwise) for session in part))
                await asyncio.sleep(0)
            if otherwise is None and now is not None:
                await now.decide()
        except NoDecision:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are judged, and this class is again
            log.error("streams could not be judged: error=%s", fault_place(error))

    async def _judge(self, regime: Regime, session: Session, otherwise: bool | None) -> None:
        """otherwise: whether its class is shown something else by the regime; None: not known yet."""
        rulings: Sequence[Ruling] = session.rulings
        if session.admitted is not regime:
            principal = session.principal
            try:
                rulings = await regime.access.require_subscribe(principal, session.topic, session.purpose)
            except EntenteError as error:
                if (
                    error.reason in _NO_ANSWER
                    or not self._holds(regime, session)
                    or session.principal is not principal
                ):
                    return
                self.discard(session)
                # An open stream tells no secret by naming its topic's owner as the one to ask.
                session.fail(EntenteError(Reason.POLICY_DENIED, decisions=error.decisions))
                return
            if session.principal is not principal:
                return
        if not self._holds(regime, session):
            return
        changed = otherwise or is_permitted_otherwise(session.rulings, rulings)
        if changed:
            session.put(Outgoing(POLICY_CHANGE))
        if changed or otherwise is not None:
            self.discard(session)
        if session.admitted is not regime:
            session.admitted, session.rulings = regime, tuple(rulings)
            self._admitted(session)

    def _holds(self, regime: Regime, session: Session) -> bool:
        """Whether what was asked of the regime still counts for the stream."""
        return self._in_force.present.regime is regime and session in self._pending and session.is_open


def _tell(asked: Iterable[asyncio.Future[None]]) -> None:
    for over in asked:
        if not over.done():
            over.set_result(None)
