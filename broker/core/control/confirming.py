"""Waiting until no live instance can release anything under what was in force before an event."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from broker.core.control.fold import EventVoid
from broker.core.control.members import Member
from broker.core.control.runtime import ControlRuntime
from broker.errors import EntenteError, StorageUnavailable
from broker.ports.control import LedgerFence

log = logging.getLogger(__name__)


class Confirming:
    """Waits for the other instances, and fences those that do not answer; used from one event loop."""

    def __init__(
        self,
        runtime: ControlRuntime,
        fence: LedgerFence,
        account_fenced: Callable[[Member], Awaitable[None]],
    ) -> None:
        """account_fenced: writes the ledger entry of a fence; raises EntenteError if it cannot."""
        self._runtime = runtime
        self._fence = fence
        self._account_fenced = account_fenced
        self._accounted: set[str] = set()

    async def by_all(self, position: int) -> tuple[str, ...]:
        """Return once every member has applied the event there; the names of those that were fenced instead.

        Raises StorageUnavailable only if this instance itself has to stop.
        """
        fenced: list[str] = []
        since_s = self._runtime.leases.now_s()
        while missing := self._missing(position):
            given_up = [member for member in missing if self._is_given_up(member, since_s)]
            gone = [member.instance for member in given_up if await self.give_up(member)]
            fenced += gone
            if not gone:
                await self._runtime.next_news()
        return tuple(fenced)

    def has_lapsed(self, member: Member) -> bool:
        """Whether another instance was silent for a lease."""
        return member != self._runtime.member and self._runtime.leases.has_lapsed(member)

    async def give_up(self, member: Member) -> bool:
        """Fence a member at the ledger and tell everybody; False if that failed, or if somebody else was quicker.

        In this order: what it releases must be void before anybody counts it as gone.
        """
        if not self._runtime.state.members.has(member.instance, member.run):
            return False
        try:
            if member.run not in self._accounted:
                await self._account_fenced(member)
                self._accounted.add(member.run)
            await self._fence.fence(member.instance, member.ledger_epoch)
            position = await self._runtime.append("fenced", {"of": member.instance, "run": member.run})
            if not await self._runtime.counts(position):
                raise EventVoid("fenced")
        except (StorageUnavailable, EntenteError) as error:
            log.warning(
                "the instance '%s' does not answer, and cannot be fenced yet: %s", member.instance, error
            )
            return False
        except EventVoid:
            return False
        log.warning("the instance '%s' did not answer and was fenced", member.instance)
        return True

    def _missing(self, position: int) -> list[Member]:
        """Those that joined before the event, are members still, and have not confirmed it."""
        members = self._runtime.state.members.present.values()
        return [each for each in members if each.joined < position and not self._has_applied(each, position)]

    def _has_applied(self, member: Member, position: int) -> bool:
        """This instance knows without a beat how far it is itself."""
        if member == self._runtime.member:
            return self._runtime.confirmed >= position
        return self._runtime.leases.has_applied(member, position)

    def _is_given_up(self, member: Member, since_s: float) -> bool:
        """Silent, or alive and not getting there for a lease; nobody gives up himself."""
        if member == self._runtime.member:
            return False
        return self.has_lapsed(member) or self._runtime.leases.is_over_since(since_s)
