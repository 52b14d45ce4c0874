"""All groups of an instance: where a session is placed, parked and merged."""

from __future__ import annotations

import asyncio

from broker.core.deliver.admission import Admissions
from broker.core.deliver.endings import Endings
from broker.core.deliver.group import Group
from broker.core.deliver.lens import Lens
from broker.core.deliver.outcomes import Seen
from broker.core.deliver.placement import GroupKey, Tools
from broker.core.deliver.session import Buffers, Outgoing, Session
from broker.core.regime import Regime
from broker.core.restrictions import require_unsuspended
from broker.errors import EntenteError, Reason
from broker.model.principal import SubjectClass
from broker.model.subscription import SubscriptionKey
from broker.ports.subscription_store import SubscriptionStore

_Class = tuple[str, SubjectClass]
"""A topic, and who sees it."""

Warm = dict[_Class, Seen]
"""What a regime that is to come into force has decided about what each class has met."""

WARM_AT_ONCE = 20
"""Classes about which a regime is asked side by side before it is in force."""

SWEEP_S = 1.0
"""How long a stream on which nothing is delivered may outlive its token or its subscription's takeover elsewhere."""

CLOSE_S = 5.0
"""How long the end waits for entries that a ledger neither takes nor refuses; what they tell is then as after a crash."""


class FanOut:
    """Groups by topic and class; used from the event loop only."""

    def __init__(
        self,
        *,
        tools: Tools,
        subscriptions: SubscriptionStore,
        buffer_limit_bytes: int,
    ) -> None:
        self.buffers = Buffers(buffer_limit_bytes)
        self._tools = tools
        self._subscriptions = subscriptions
        self._groups: dict[GroupKey, list[Group]] = {}
        self._lenses: dict[_Class, tuple[Regime, Lens]] = {}
        self._seen: dict[_Class, Seen] = {}
        self._parked: set[Session] = set()
        self._closed = False
        self._sessions: set[Session] = set()
        self._admissions = Admissions(tools.in_force, self.resume, self._seen_now)
        self._endings = Endings()
        self._sweeper: asyncio.Task[None] | None = None

    def begin(self, session: Session) -> None:
        """A stream is open: serve it once it has credit. Its subscription's earlier streams end now."""
        self._sessions.add(session)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_each_second())
        self.sweep()
        self.park(session)

    def serves(self, key: SubscriptionKey) -> bool:
        """Whether a stream of this subscription is open here."""
        return any(session.is_open and session.subscription_key == key for session in self._sessions)

    def sweep(self) -> None:
        """End every stream whose token has expired or whose subscription was taken over, moved or deleted."""
        for session in list(self._sessions):
            self.is_served(session)

    async def _sweep_each_second(self) -> None:
        """For what happens on other instances, and to streams that nothing is delivered to."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()
            self._forget_lenses()

    def place(self, session: Session) -> None:
        """Let the session be served from its position: in the group that stands there, or in a new one."""
        if not self._is_admitted(session):
            self._admissions.add([session])
            return
        if not session.budget().is_open:
            self.park(session)
            return
        session.apart = self._apart(session)
        groups = self._groups.setdefault(GroupKey.of(session), [])
        group = next((g for g in groups if g.standing == session.standing), None)
        if group is None:
            group = self._start(session, groups)
        group.join(session)

    def park(self, session: Session) -> None:
        """Set the session aside until it has credit and room; one that the present rules have not admitted until they do."""
        if self._closed or not session.is_open or session.away:
            return
        if not self._is_admitted(session):
            self._admissions.add([session])
        elif session.budget().is_open:
            self.place(session)
        else:
            self._parked.add(session)

    def wake(self, session: Session) -> None:
        """Credit came, or room in its buffer."""
        if not self._closed and session in self._parked and session.budget().is_open:
            self._parked.discard(session)
            self.place(session)

    def written(self, session: Session, outgoing: Outgoing) -> None:
        """The transport took a message; if somebody found no room, others may go on now as well."""
        session.written(outgoing)
        self._wake_all([session])

    def remove(self, session: Session) -> None:
        """Serve the session no more; it keeps its position, and what an entry is being written of (see `accounted`)."""
        self._parked.discard(session)
        self._admissions.discard(session)
        for group in list(self._groups_of(session)):
            group.leave(session)
            if not group.members and group.task is not None:
                # Out of the index at once: a session placed before the cancellation arrives must not join it.
                self.forget(group)
                group.task.cancel()

    def end(self, session: Session) -> None:
        """The stream is over: serve it no more and give its room back."""
        self._sessions.discard(session)
        self.remove(session)
        session.discard()
        self._wake_all([])

    def _wake_all(self, sessions: list[Session]) -> None:
        """The sessions whose own room grew, or every one if the common room had been too small for somebody."""
        starved, self.buffers.starved = self.buffers.starved, False
        for waiting in list(self._parked) if starved else sessions:
            self.wake(waiting)

    def is_served(self, session: Session) -> bool:
        """Whether it may be handed records: open, its token valid, its subscription not taken over, nothing suspended."""
        if not session.is_open:
            return False
        key = session.subscription_key
        if key is not None and self._subscriptions.present_epoch(key) != session.epoch:
            session.fail(EntenteError(Reason.SUBSCRIPTION_TAKEN_OVER))
            return False
        now_ms = self._tools.clock.now_ms()
        if session.principal.expires_at.timestamp() * 1000 <= now_ms:
            session.fail(EntenteError(Reason.TOKEN_EXPIRED))
            return False
        suspended = self._suspended(session, now_ms)
        if suspended is not None:
            session.fail(suspended)
        return suspended is None

    def merge(self, group: Group) -> None:
        """If another group of the same class stands at the same position, move this one's members over."""
        for other in self._groups.get(group.key, ()):
            if other is not group and other.standing == group.standing:
                other.absorb(group)
                return

    def forget(self, group: Group) -> None:
        """Take the group out of the index; idempotent."""
        groups = self._groups.get(group.key, [])
        if group in groups:
            groups.remove(group)
        if not groups:
            self._groups.pop(group.key, None)

    def lens(self, regime: Regime, topic: str, subject: SubjectClass) -> Lens:
        """Groups of one class see alike, so memory for what was seen goes by classes and not by streams."""
        key = (topic, subject)
        known = self._lenses.get(key)
        if known is None or known[0] is not regime:
            seen = self._seen.setdefault(key, Seen(regime, topic, subject))
            known = self._lenses[key] = regime, Lens.of(regime, topic, subject, seen)
        return known[1]

    def switched(self, warm: Warm | None = None) -> asyncio.Future[None]:
        """Other rules are in force: no stream is served by them before they have admitted it.

        warm: what `warm` has filled for them. The result is done when they were asked about each.
        """
        regime = self._tools.in_force.present.regime
        earlier = self._seen
        self._lenses.clear()
        self._seen = {key: (warm or {}).get(key) or Seen(regime, *key) for key in earlier}
        for key, seen in earlier.items():
            self._seen[key].follow(seen)
        left = [session for session in self._sessions if session.admitted is not regime]
        self._admissions.add(left, {s: earlier[key] for s in left if (key := _class_of(s)) in earlier})
        return self._admissions.judged_once()

    def restricted(self) -> None:
        """Other overlays hold: end the streams of whoever and whatever is suspended; some are served apart from now on."""
        now_ms = self._tools.clock.now_ms()
        ended: list[tuple[Session, EntenteError]] = []
        for session in self._sessions:
            session.apart = self._apart(session)
            suspended = self._suspended(session, now_ms) if session.is_open else None
            if suspended is not None:
                ended.append((session, suspended))
        self._endings.add(ended)

    async def warm(self, regime: Regime, decided: Warm) -> None:
        """Have a regime that is not in force yet decide what the open streams will ask of it; `decided` is filled."""
        asked = self._admissions.ask(list(self._sessions), regime)
        await asyncio.gather(asked, self._warm_classes(regime, decided))

    async def _warm_classes(self, regime: Regime, decided: Warm) -> None:
        classes = list(self._seen.items())
        for begin in range(0, len(classes), WARM_AT_ONCE):
            part = {key: Seen(regime, *key, seen) for key, seen in classes[begin : begin + WARM_AT_ONCE]}
            await asyncio.gather(*(later.decide() for later in part.values()))
            decided |= part

    def _suspended(self, session: Session, now_ms: int) -> EntenteError | None:
        try:
            require_unsuspended(self._tools.in_force.present, session.principal, session.topic, now_ms)
        except EntenteError as suspended:
            return suspended
        return None

    def _is_admitted(self, session: Session) -> bool:
        return session.admitted is self._tools.in_force.present.regime

    def resume(self, session: Session) -> None:
        """The rules in force have admitted the stream, which may not even have left its group."""
        placed = any(session in group.members for group in self._groups_of(session))
        if not placed and session not in self._parked:
            self.park(session)

    def _seen_now(self, session: Session) -> Seen | None:
        return self._seen.get(_class_of(session))

    def _apart(self, session: Session) -> str | None:
        judge, (agency, subject) = self._tools.in_force.present.judge, session.principal.key
        return subject if judge.is_apart(agency, subject) else None

    def _groups_of(self, session: Session) -> list[Group]:
        """Those of its class in which it may be, whether or not it has just been set apart."""
        topic, subject = _class_of(session)
        keys = (GroupKey(topic, subject), GroupKey(topic, subject, session.principal.subject))
        return [group for key in keys for group in self._groups.get(key, ())]

    def _forget_lenses(self) -> None:
        """Those of classes of which no stream is open."""
        idle = self._seen.keys() - {(key.topic, key.subject) for key in self._groups}
        if idle:  # else every second would go through all streams for nothing
            idle -= {_class_of(session) for session in self._sessions}
        for key in idle:
            del self._seen[key]
            self._lenses.pop(key, None)

    async def close(self) -> None:
        """Stop all groups and wait until they have stopped, and for entries under way; no session is served afterwards."""
        self._closed = True
        groups = [group for alike in self._groups.values() for group in alike]
        tasks = [group.task for group in groups if group.task is not None]
        if self._sweeper is not None:
            tasks.append(self._sweeper)
        await self._admissions.close()
        await self._endings.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        accounting = [group.accounting for group in groups if group.accounting is not None]
        if accounting:
            await asyncio.wait(accounting, timeout=CLOSE_S)

    def _start(self, session: Session, groups: list[Group]) -> Group:
        group = Group(self._tools, self, GroupKey.of(session), session.standing)
        groups.append(group)
        group.task = asyncio.get_running_loop().create_task(group.run())
        return group


def _class_of(session: Session) -> _Class:
    return session.topic, session.subject_class
