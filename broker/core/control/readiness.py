"""Prepares in this instance the revision that is about to be activated, and tells the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker.core.control.activations import Pending
from broker.core.control.applier import Applier, PreparationFailed, Prepared
from broker.errors import StorageUnavailable, fault_place
from broker.model.ledger import JsonValue

log = logging.getLogger(__name__)

_SAY_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class _Held:
    """What was prepared for one activation, or None if that failed."""

    activation: str
    prepared: Prepared | None


class Readiness:
    """Holds at most one prepared revision: that of the activation under way. Used from one event loop."""

    def __init__(
        self,
        applier: Applier,
        run: str,
        append: Callable[[str, dict[str, JsonValue]], Awaitable[int]],
    ) -> None:
        self._applier = applier
        self._run = run
        self._append = append
        self._wanted: Pending | None = None
        self._held: _Held | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def want(self, pending: Pending | None) -> None:
        """The activation that is under way now, or none."""
        self._wanted = pending
        if self._task is None and self._is_behind() and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._catch_up())

    def take(self, activation: str) -> Prepared | None:
        """What was prepared for this activation, which is now in force; it is the caller's from here on."""
        held = self._held
        if held is None or held.activation != activation:
            return None
        self._held = None
        return held.prepared

    async def close(self) -> None:
        """End what runs, and let go of what is held; idempotent."""
        self._closed, self._wanted = True, None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._let_go()

    def _is_behind(self) -> bool:
        return self._id(self._wanted) != self._id(self._held)

    @staticmethod
    def _id(of: Pending | _Held | None) -> str | None:
        return None if of is None else of.activation

    async def _catch_up(self) -> None:
        """One preparation at a time, until what is held is what is wanted."""
        try:
            while self._is_behind():
                await self._let_go()
                if self._wanted is not None:
                    await self._prepare(self._wanted)
        finally:
            self._task = None

    async def _prepare(self, pending: Pending) -> None:
        prepared, cause = None, ""
        try:
            prepared = await self._applier.prepare(pending.revision)
        except PreparationFailed as error:
            cause = str(error) or "it gave no cause"
        except Exception as error:  # noqa: BLE001 - whatever fails here must leave what is in force as it is
            log.error("a revision could not be prepared: %s", fault_place(error))
            cause = "it failed in a way that its log tells"
        self._held = _Held(pending.activation, prepared)
        if prepared is None:
            log.warning("revision %s cannot be prepared here: %s", pending.revision, cause)
            await self._say(pending, "unprepared", {"cause": cause})
        else:
            await self._say(pending, "prepared", {})

    async def _say(self, pending: Pending, kind: str, more: dict[str, JsonValue]) -> None:
        """As long as somebody wants to know."""
        while self._id(self._wanted) == pending.activation:
            try:
                await self._append(kind, {"activation": pending.activation, "run": self._run, **more})
            except StorageUnavailable:
                await asyncio.sleep(_SAY_AGAIN_S)
            else:
                return

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None and held.prepared is not None:
            await held.prepared.discard()
