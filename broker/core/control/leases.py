"""Who is alive, as this instance can tell: by beats that it hears through the control log, its own among them.

Time is that of a clock that goes on while the machine or the process is suspended (CLOCK_BOOTTIME). An instance measures
another's silence only as far as it hears itself: a log that brings nothing at all says nothing about anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.core.control.members import Member
from broker.model.control import Beat


@dataclass(slots=True)
class _Sign:
    """What was heard last of one run."""

    heard_s: float
    applied: int = -1


class Leases:
    """One instance's view of its own lease, and of the others'."""

    def __init__(self, run: str, lease_s: float, now_s: Callable[[], float]) -> None:
        self._run = run
        self._lease_s = lease_s
        self._now_s = now_s
        self._sent: dict[int, float] = {}
        self._number = 0
        self._until_s = float("-inf")
        self.heard_s = now_s()
        """When an own beat came back last."""
        self._amnesty_s = self.heard_s
        self._signs: dict[str, _Sign] = {}

    def next_beat(self) -> int:
        """The number of the beat that is sent now."""
        self._number += 1
        self._sent[self._number] = self._now_s()
        return self._number

    def heard(self, beat: Beat) -> None:
        """A beat came out of the log."""
        now_s = self._now_s()
        self._signs[beat.run] = _Sign(now_s, beat.applied)
        if beat.run != self._run or beat.number not in self._sent:
            return
        if now_s - self.heard_s > self._lease_s / 2:
            # This instance was cut off or asleep itself: what it did not hear meanwhile is nobody's silence.
            self._amnesty_s = now_s
        self.heard_s = now_s
        self._until_s = self._sent[beat.number] + self._lease_s
        self._sent = {number: sent_s for number, sent_s in self._sent.items() if number > beat.number}

    def holds(self) -> bool:
        """Whether the newest own beat that came back was sent less than a lease ago."""
        return self._now_s() < self._until_s

    def met(self, run: str) -> None:
        """A run was first heard of now."""
        self._signs.setdefault(run, _Sign(self._now_s()))

    def has_applied(self, member: Member, position: int) -> bool:
        """Whether the member said that it has applied the event there, and everything before it."""
        sign = self._signs.get(member.run)
        return sign is not None and sign.applied >= position

    def has_lapsed(self, member: Member) -> bool:
        """Whether the member was silent for a lease, in which this instance heard itself."""
        sign = self._signs.get(member.run)
        return self.is_over_since(self._amnesty_s if sign is None else sign.heard_s)

    def is_over_since(self, since_s: float) -> bool:
        """Whether a lease has passed since then, in which this instance heard itself."""
        return self.heard_s - max(since_s, self._amnesty_s) >= self._lease_s

    def now_s(self) -> float:
        """Seconds on the clock of the leases."""
        return self._now_s()
