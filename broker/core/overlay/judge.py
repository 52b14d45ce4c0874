"""What the overlays restrict, looked up while records pass: every question costs the same, however much is suspended."""

from __future__ import annotations

from collections.abc import Mapping

from broker.model.overlay import Overlays, Suspension, SuspensionKind

_Where = tuple[SuspensionKind, str]
_Held = Mapping[_Where, tuple[Suspension, ...]]


class Judge:
    """Of one state of the overlays. Times are milliseconds since 1970: what ends by itself, or lapses, needs no event.

    The exchange's own suspensions, and an agency's of its own people, refuse calls and end streams. Everything else that
    an owner suspends holds up that owner's records, and only these: they wait, and nobody learns of it.
    """

    __slots__ = ("_calls", "_owners", "_withdrawn", "holds_up_anything", "withdraws_anything")

    def __init__(self, overlays: Overlays) -> None:
        self._withdrawn = overlays.withdrawn
        self.withdraws_anything = bool(overlays.withdrawn)
        """Whether any record is withdrawn at all."""
        calls: dict[_Where, tuple[Suspension, ...]] = {}
        owners: dict[str, dict[_Where, tuple[Suspension, ...]]] = {}
        for suspension in overlays.suspensions.values():
            where = (suspension.kind, suspension.target)
            held = calls if refuses_calls(suspension) else owners.setdefault(str(suspension.owner), {})
            held[where] = (*held.get(where, ()), suspension)
        self._calls: _Held = calls
        self._owners: Mapping[str, _Held] = owners
        self.holds_up_anything = bool(owners)
        """Whether any owner has suspended somebody, or a topic, for its own records."""

    def principal_suspended(self, agency: str, subject: str, now_ms: int) -> Suspension | None:
        """The suspension by which this principal's calls are refused and its streams end, or None."""
        if not self._calls:
            return None
        whole = _holding(self._calls, SuspensionKind.AGENCY, agency, now_ms)
        return whole or _holding(
            self._calls, SuspensionKind.PRINCIPAL, principal_name(agency, subject), now_ms
        )

    def topic_suspended(self, topic: str, now_ms: int) -> Suspension | None:
        """The suspension by which nobody publishes or receives anything on this topic, or None."""
        return _holding(self._calls, SuspensionKind.TOPIC, topic, now_ms) if self._calls else None

    def owner_waits(
        self, owner: str, topic: str, consumer: str, now_ms: int, subject: str | None = None
    ) -> Suspension | None:
        """The owner's suspension because of which its records wait for this consumer on this topic, or None.

        subject: that of the consumer's stream if `is_apart` says that its records are to be judged for it alone.
        """
        held = self._owners.get(owner)
        if held is None:
            return None
        found = _holding(held, SuspensionKind.AGENCY, consumer, now_ms)
        found = found or _holding(held, SuspensionKind.TOPIC, topic, now_ms)
        if found is None and subject is not None:
            found = _holding(held, SuspensionKind.PRINCIPAL, principal_name(consumer, subject), now_ms)
        return found

    def is_apart(self, agency: str, subject: str) -> bool:
        """Whether some owner's records wait for this principal and not for others of its class."""
        name = principal_name(agency, subject)
        return any((SuspensionKind.PRINCIPAL, name) in held for held in self._owners.values())

    def is_withdrawn(self, identity: bytes) -> bool:
        """Whether the record of this identity (broker.core.record.fingerprint) is never to be delivered again."""
        return self.withdraws_anything and identity in self._withdrawn


def refuses_calls(suspension: Suspension) -> bool:
    """Whether it refuses calls, rather than making one owner's records wait."""
    if suspension.owner is None:
        return True
    agency = suspension.target.partition("/")[0]
    return suspension.kind is not SuspensionKind.TOPIC and agency == suspension.owner


def principal_name(agency: str, subject: str) -> str:
    """What a suspension of this principal names."""
    return f"{agency}/{subject}"


def _holding(held: _Held, kind: SuspensionKind, target: str, now_ms: int) -> Suspension | None:
    return next((each for each in held.get((kind, target), ()) if each.holds_at(now_ms)), None)
