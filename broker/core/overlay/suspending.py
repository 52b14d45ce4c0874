"""Suspending, ratifying, lifting and listing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.core.administer import EVERYBODY
from broker.core.control.desk import Enacted
from broker.core.control.fold import EventVoid
from broker.core.decide import Ruling
from broker.core.in_force import InForce
from broker.core.overlay.asking import OPERATOR, REASON_BYTES, Asking, line, own_scope
from broker.core.overlay.events import brief_body, suspension_body, who_body
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.overlay import EndCause, PastSuspension, Suspension, SuspensionKind
from broker.model.principal import Principal

LONGEST_MS = 10 * 366 * 24 * 3600 * 1000
TARGET_BYTES = 512
SUSPENSIONS_MOST = 1_000
"""So many of one owner, or of the exchange, hold at once; further ones are refused, and nobody takes another's room."""

_ID_BYTES = 8
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_NOBODY = ("", "")


@dataclass(frozen=True, slots=True)
class Suspended:
    """What came of a change. over: how it ended, if it did."""

    suspension: Suspension
    enacted: Enacted
    over: PastSuspension | None = None


class SuspensionDesk:
    """Every method raises EntenteError: see the service Overlays."""

    def __init__(self, asking: Asking, in_force: InForce[Regime]) -> None:
        self._asking = asking
        self._in_force = in_force

    async def suspend(
        self,
        principal: Principal,
        kind: SuspensionKind | None,
        target: str,
        reason: str,
        lasts_ms: int | None,
    ) -> Suspended:
        """Returns when it holds on every live instance. lasts_ms: None until it is lifted."""
        owner = own_scope(principal)
        rulings = await self._asking.permitted(principal, "suspend", owner or EVERYBODY)
        if kind is None:
            raise EntenteError(Reason.REQUEST_INVALID, "it is not said what kind of thing to suspend")
        self._check(kind, target, owner)
        line(reason, "the reason", REASON_BYTES)
        if lasts_ms is not None and not 0 < lasts_ms <= LONGEST_MS:
            raise EntenteError(Reason.REQUEST_INVALID, "the duration is not above 0 and at most ten years")
        if sum(each.owner == owner for each in self._held.values()) >= SUSPENSIONS_MOST:
            raise EntenteError(Reason.LIMIT_EXCEEDED, f"{SUSPENSIONS_MOST} suspensions")
        now_ms = self._asking.now_ms()
        new = Suspension(
            id=secrets.token_hex(_ID_BYTES),
            kind=kind,
            target=target,
            owner=owner,
            reason=reason,
            by_agency=principal.agency,
            by_subject=principal.subject,
            since_ms=now_ms,
            until_ms=None if lasts_ms is None else now_ms + lasts_ms,
            ratify_by_ms=now_ms + self._ratify_ms() if owner is None else None,
        )
        body = suspension_body(new)
        told = {name: value for name, value in body.items() if name not in ("by", "since_ms")}
        return Suspended(new, await self._asking.enact(principal, "suspended", told, body, rulings))

    async def ratify(self, principal: Principal, suspension_id: str) -> Suspended:
        """Returns when no instance takes it for lapsed any more."""
        found = self._held.get(suspension_id)
        exchanges = found is not None and found.owner is None
        author = (found.by_agency, found.by_subject) if found is not None and exchanges else _NOBODY
        rulings = await self._asking.permitted(principal, "ratify", EVERYBODY, author)
        if found is None or not found.holds_at(self._asking.now_ms()):
            raise EntenteError(Reason.SUSPENSION_NOT_FOUND, suspension_id)
        if found.ratify_by_ms is None or found.ratified_by is not None:
            raise EntenteError(Reason.SUSPENSION_SETTLED)
        enacted = await self._change(principal, "ratified", found, rulings)
        return Suspended(replace(found, ratified_by=(principal.agency, principal.subject)), enacted)

    async def lift(self, principal: Principal, suspension_id: str) -> Suspended:
        """Returns when it restricts nothing on any live instance; what waited comes from then on."""
        scope = own_scope(principal)
        rulings = await self._asking.permitted(principal, "lift", scope or EVERYBODY)
        found = self._held.get(suspension_id)
        if found is None or found.owner != scope:  # another's is like a missing one
            raise EntenteError(Reason.SUSPENSION_NOT_FOUND, suspension_id)
        enacted = await self._change(principal, "lifted", found, rulings)
        by = (principal.agency, principal.subject)
        return Suspended(found, enacted, PastSuspension(found, EndCause.LIFTED, self._asking.now_ms(), by))

    async def list(self, principal: Principal, *, past: bool) -> list[Suspension | PastSuspension]:
        """What the principal may see of what holds, by time, then, if `past`, of what is over, the newest first."""
        agency = (await self._asking.scope(principal)).agency
        now_ms = self._asking.now_ms()
        fold = self._asking.state.overlays
        held = sorted(self._held.values(), key=lambda each: (each.since_ms, each.id))
        shown: list[Suspension | PastSuspension] = [each for each in held if each.holds_at(now_ms)]
        if past:
            unannounced = [_over_by_time(each) for each in reversed(held) if not each.holds_at(now_ms)]
            shown += [*unannounced, *reversed(fold.past)]
        return shown if agency is None else [each for one in shown for each in _shown_to(agency, one)]

    @property
    def _held(self) -> Mapping[str, Suspension]:
        return self._asking.state.overlays.overlays.suspensions

    async def _change(
        self, principal: Principal, kind: str, found: Suspension, rulings: tuple[Ruling, ...]
    ) -> Enacted:
        by = who_body(principal.agency, principal.subject)
        try:
            return await self._asking.enact(
                principal, kind, brief_body(found), {"id": found.id, "by": by}, rulings
            )
        except EventVoid:  # somebody was faster, or its time has come
            raise EntenteError(Reason.SUSPENSION_NOT_FOUND, found.id) from None

    def _ratify_ms(self) -> int:
        """Without an administration nobody can ratify anything, and it holds no longer than it takes to see that."""
        administration = self._in_force.present.regime.registry.administration
        hours = administration.ratify_hours if administration is not None else 1
        return hours * 3600 * 1000

    def _check(self, kind: SuspensionKind, target: str, owner: str | None) -> None:
        """Raises EntenteError REQUEST_INVALID. Whether it exists is told to administrators of the exchange only."""
        line(target, "the target", TARGET_BYTES)
        agency, slash, subject = target.partition("/")
        is_whole = bool(subject) if kind is SuspensionKind.PRINCIPAL else not slash
        if not _NAME.fullmatch(agency) or not is_whole:
            raise EntenteError(
                Reason.REQUEST_INVALID,
                "the target is no agency, <agency>/<subject> or topic, as its kind says",
            )
        registry = self._in_force.present.regime.registry
        known = registry.topics if kind is SuspensionKind.TOPIC else registry.agencies
        if owner is None and agency not in known:
            raise EntenteError(Reason.REQUEST_INVALID, f"the rulebook in force has no {kind} '{agency}'")
        if kind is SuspensionKind.AGENCY and agency in (OPERATOR, owner):
            # Nobody could lift it any more.
            raise EntenteError(
                Reason.REQUEST_INVALID, "nobody could lift that; suspend principals, or ask the exchange"
            )


def _over_by_time(suspension: Suspension) -> PastSuspension:
    """One whose time has come, as long as no instance has announced that."""
    return PastSuspension(suspension, suspension.end_cause, suspension.ends_ms or 0)


def _shown_to(agency: str, one: Suspension | PastSuspension) -> list[Suspension | PastSuspension]:
    """An agency's own; of the exchange's those of its people, without why and who."""
    suspension = one.suspension if isinstance(one, PastSuspension) else one
    if suspension.owner == agency:
        return [one]
    concerns = suspension.kind is not SuspensionKind.TOPIC and suspension.target.partition("/")[0] == agency
    if suspension.owner is not None or not concerns:
        return []
    bare = replace(suspension, reason="", by_agency="", by_subject="", ratified_by=None)
    return [replace(one, suspension=bare, by=None) if isinstance(one, PastSuspension) else bare]
