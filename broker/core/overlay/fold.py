"""What the control log's events make of the overlays: pure, and the same on every instance (docs/control.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from broker.core.overlay.events import read_id, read_named, read_suspension, read_who, read_withdrawal
from broker.core.overlay.layers import Layers
from broker.model.control import ControlEvent
from broker.model.overlay import EndCause, Overlays, PastSuspension, Suspension, Withdrawal

PAST_SUSPENSIONS = 100
"""How many that are over are kept to be listed; the ledger has all of them."""


@dataclass(frozen=True, slots=True)
class OverlayFold:
    """The overlays, and what has to be known to administer them.

    past: suspensions that are over, the newest last. announced: identities of withdrawn records of which all who were
    handed them have their notice in the log. counts: by owner how many records it has withdrawn.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"suspended", "ratified", "lifted", "withdrawn", "announced"})

    overlays: Overlays = field(default_factory=lambda: Overlays(withdrawn=Layers[Withdrawal]()))
    past: tuple[PastSuspension, ...] = ()
    announced: Layers[int] = field(default_factory=Layers)
    counts: Mapping[str, int] = field(default_factory=dict)

    def apply(self, event: ControlEvent, position: int) -> OverlayFold | None:
        """See broker.core.control.fold.Fold."""
        steps: Mapping[str, Callable[[ControlEvent, int], OverlayFold | None]] = {
            "suspended": self._suspended,
            "ratified": self._ratified,
            "lifted": self._lifted,
            "withdrawn": self._withdrawn,
            "announced": self._announced,
        }
        return steps[event.kind](event, position)

    @property
    def withdrawn(self) -> Layers[Withdrawal]:
        """All withdrawn records, in the order in which they were withdrawn."""
        held = self.overlays.withdrawn
        return held if isinstance(held, Layers) else Layers(dict(held))

    def _suspended(self, event: ControlEvent, _: int) -> OverlayFold | None:
        """Counts unless its id was used before, or it was over before it began."""
        new = read_suspension(event.body)
        known = new.id in self.overlays.suspensions or any(past.suspension.id == new.id for past in self.past)
        if known or not new.holds_at(event.time_ms):
            return None
        return self._with({**self.overlays.suspensions, new.id: new})

    def _ratified(self, event: ControlEvent, _: int) -> OverlayFold | None:
        """Counts by another person than its author, once, and in time."""
        present = self._present(event)
        by = read_who(event.body)
        if (
            present is None
            or not present.holds_at(event.time_ms)
            or by == (present.by_agency, present.by_subject)
        ):
            return None
        if present.ratify_by_ms is None or present.ratified_by is not None:
            return None
        return self._with({**self.overlays.suspensions, present.id: replace(present, ratified_by=by)})

    def _lifted(self, event: ControlEvent, _: int) -> OverlayFold | None:
        present = self._present(event)
        if present is None:
            return None
        return self._without(PastSuspension(present, EndCause.LIFTED, event.time_ms, read_who(event.body)))

    def _withdrawn(self, event: ControlEvent, _: int) -> OverlayFold | None:
        """Counts again without an effect: whoever asks again learns when every instance has applied it."""
        new = read_withdrawal(event.body, event.instance)
        if new.identity in self.overlays.withdrawn:
            return self
        overlays = self.overlays
        withdrawn = self.withdrawn.put(new.identity, new)
        counts = {**self.counts, new.owner: self.counts.get(new.owner, 0) + 1}
        changed = replace(overlays, epoch=overlays.epoch + 1, withdrawn=withdrawn)
        return replace(self, overlays=changed, counts=counts)

    def _announced(self, event: ControlEvent, position: int) -> OverlayFold | None:
        """That a withdrawal's recipients have their notice, or that a suspension is over by its time."""
        if "source" in event.body:
            identity = read_named(event.body)
            if identity not in self.overlays.withdrawn or identity in self.announced:
                return None
            return replace(self, announced=self.announced.put(identity, position))
        present = self._present(event)
        if present is None or present.holds_at(event.time_ms):
            return None
        return self._without(PastSuspension(present, present.end_cause, event.time_ms))

    def _present(self, event: ControlEvent) -> Suspension | None:
        return self.overlays.suspensions.get(read_id(event.body))

    def _with(self, suspensions: Mapping[str, Suspension]) -> OverlayFold:
        overlays = self.overlays
        return replace(self, overlays=replace(overlays, epoch=overlays.epoch + 1, suspensions=suspensions))

    def _without(self, past: PastSuspension) -> OverlayFold:
        left = {key: each for key, each in self.overlays.suspensions.items() if key != past.suspension.id}
        return replace(self._with(left), past=(*self.past, past)[-PAST_SUSPENSIONS:])
